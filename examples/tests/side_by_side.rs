//! The program `side_by_side` on the clip that the repository carries.

use std::process::Command;

const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/media/towers.mp4");

#[test]
fn a_picture_of_both_enlargements_is_written() {
    let path = std::env::temp_dir().join(format!(
        "flashvideo-side-by-side-{}.png",
        std::process::id()
    ));
    let run = |more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_side_by_side"))
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
    let picture = image::open(&path).unwrap().into_rgb8();
    std::fs::remove_file(&path).unwrap();
    let (width, height) = picture.dimensions();
    assert_eq!(height, 100);
    let left = image::imageops::crop_imm(&picture, 0, 0, 200, 100).to_image();
    let right = image::imageops::crop_imm(&picture, width - 200, 0, 200, 100).to_image();
    let difference = |a: &image::RgbImage, b: &image::RgbImage| {
        let sum: u64 = a
            .iter()
            .zip(b.iter())
            .map(|(a, b)| u64::from(a.abs_diff(*b)))
            .sum();
        sum as f64 / a.len() as f64
    };
    let apart = difference(&left, &right);
    assert!(apart > 0.2, "the halves are enlarged differently: {apart}");
    // Another frame or another place would differ far more: this is a busy picture.
    assert!(apart < 12.0, "the halves show the same: {apart}");

    let late = run(&["--at", "60"]);
    assert_eq!(late.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&late.stderr).contains("ends before"));
    assert!(!path.exists());
}
