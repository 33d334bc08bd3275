// SPDX-License-Identifier: MPL-2.0
//! At the pace of the clock.

use gst::prelude::*;

use crate::fixture::{Fixture, bytes};

#[test]
fn the_last_frame_stays_while_the_next_clip_is_made() {
    let mut fixture = Fixture::ready(&[
        ("is-live", "true"),
        ("num-clips", "0"),
        ("num-frames", "1"),
        ("steps", "400"),
    ]);
    fixture
        .harness
        .set_sink_caps_str("video/x-raw,framerate=120/1");
    fixture.harness.use_systemclock();
    fixture.harness.play();
    let mut query = gst::query::Latency::new();
    let mut buffers = vec![fixture.pull()];
    while fixture.stats::<u64>("clips") < 3 {
        buffers.push(fixture.pull());
    }
    assert!(fixture.element.query(&mut query) && query.result().0);
    assert!(buffers.windows(2).all(|pair| pair[0].pts() < pair[1].pts()));
    let same = |pair: &&[gst::Buffer]| bytes(&pair[0]) == bytes(&pair[1]);
    let repeated = buffers.windows(2).filter(same).count() as u64;
    let told = fixture.stats::<u64>("repeated-frames");
    assert!(repeated > 0 && repeated <= told, "{repeated} of {told}");
}
