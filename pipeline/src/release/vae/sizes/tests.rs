// SPDX-License-Identifier: MPL-2.0
use super::*;

fn release() -> VaeConfig {
    VaeConfig {
        colours: 3,
        latent: 16,
        base: 128,
        encoder_channels: vec![128, 256, 256, 512],
        encoder_blocks: vec![3; 4],
        decoder_channels: vec![128, 256, 256, 512],
        decoder_blocks: vec![4; 4],
        groups: 32,
    }
}

#[test]
fn the_way_through_the_release() {
    let config = release();
    let steps = config.encoder(17, 1072, 1920);
    let last = steps.last().unwrap();
    assert_eq!((last.frames, last.height, last.width), (5, 134, 240));
    let steps = config.decoder(3, true, 134, 240);
    let last = steps.last().unwrap();
    assert_eq!((last.frames, last.height, last.width), (9, 1072, 1920));
    assert_eq!(config.decoder(2, false, 134, 240).last().unwrap().frames, 8);
    // conv_in, twelve blocks with three reductions and two of time, two blocks, norm_out and conv_out.
    assert_eq!(config.encoder(1, 8, 8).len(), 1 + 12 + 3 + 2 + 2 + 2);
}

#[test]
fn frames_apart_take_less_and_frugal_ones_least() {
    let config = release();
    let size = (1072, 1920);
    let pixels = (size.0 * size.1) as u64;
    // 17 frames of 128 channels in bf16.
    let activation = 2 * 17 * 128 * pixels;
    let bytes = |apart, frugal| {
        let keeping = Keeping {
            apart,
            element: 2,
            frugal,
        };
        (
            config.encoding_bytes(17, size, keeping),
            config.decoding_bytes(3, true, (134, 240), keeping),
        )
    };
    let (whole, apart, frugal) = (bytes(false, false), bytes(true, false), bytes(true, true));
    assert_eq!(whole.0, 3 * activation);
    assert!(frugal.0 < apart.0 && apart.0 < whole.0);
    assert!(frugal.1 < apart.1 && apart.1 < whole.1);
    // Nearly all of the frugal way are the frames themselves.
    assert!(frugal.0 > activation && frugal.0 < activation * 8 / 5);
    // At full size six convolutions of 128 channels remember two frames each; those below add less than as much.
    let memory = config.encoder_memory(size, 2);
    let full = 2 * 2 * 6 * 128 * pixels;
    assert!(memory > full && memory < 2 * full);
}
