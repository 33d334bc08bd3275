// SPDX-License-Identifier: MPL-2.0
//! `flashvideo compare` on the clip that the repository carries.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;

const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/media/towers.mp4");

/// Rows of bytes of an RGB picture.
fn rows(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = png::Decoder::new(BufReader::new(File::open(path).unwrap()))
        .read_info()
        .unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgb);
    bytes.chunks(info.line_size).map(<[u8]>::to_vec).collect()
}

#[test]
fn a_picture_of_both_enlargements_is_written() {
    let path = std::env::temp_dir().join(format!(
        "flashvideo-side-by-side-{}.png",
        std::process::id()
    ));
    let run = |more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_flashvideo"))
            .arg("compare")
            .args([CLIP.as_ref(), path.as_os_str()])
            .args(["--size", "720x405", "--model", "builtin:live"])
            .args(more)
            .output()
            .unwrap()
    };
    let done = run(&["--at", "0.5", "--crop", "200x100+40+0"]);
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let picture = rows(&path);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(picture.len(), 100);
    let (mut sum, mut count) = (0, 0);
    for row in &picture {
        let (left, right) = (&row[..3 * 200], &row[row.len() - 3 * 200..]);
        sum += (left.iter().zip(right))
            .map(|(left, right)| u64::from(left.abs_diff(*right)))
            .sum::<u64>();
        count += left.len();
    }
    let apart = sum as f64 / count as f64;
    assert!(apart > 0.2, "the halves are enlarged differently: {apart}");
    // Another frame or another place would differ far more: this is a busy picture.
    assert!(apart < 12.0, "the halves show the same: {apart}");

    let late = run(&["--at", "60"]);
    assert_eq!(late.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&late.stderr).contains("ends before"));
    assert!(!path.exists());
}
