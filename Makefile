# SPDX-License-Identifier: MPL-2.0
# `make demo` shows what the project does, `make test` whether it works. Both install what they need.

.PHONY: help demo build install uninstall deb wheel test soak lint bench fuzz clean

help:
	@echo 'make demo       install, build, and enhance the clip in examples/media: demo/out.mp4, demo/side_by_side.png;'
	@echo '                clips from three prompts, as made and as enhanced: demo/storybook.png'
	@echo 'make build      install what it takes and build: target/release/flashvideo, target/release/libgstflashvideo.so'
	@echo 'make install    the plugin, its presets and the program flashvideo, for this user: nothing else needs to be set.'
	@echo '                For everybody: make build && sudo make install PREFIX=/usr. For packages: DESTDIR= and PREFIX=/usr'
	@echo 'make uninstall  remove them again'
	@echo 'make deb        a package for Debian 12 and later: build/packages/flashvideo_VERSION_ARCHITECTURE.deb'
	@echo 'make wheel      a package for pip: build/packages/flashvideo-VERSION-py3-none-linux_MACHINE.whl'
	@echo 'make test       install what the tests need and run them all'
	@echo 'make soak       ten thousand random event sequences for each element; half an hour'
	@echo 'make lint       formatting, clippy, documentation, licences of dependencies, the build with meson'
	@echo 'make bench      speed on this machine, beside PyTorch, ONNX Runtime and ncnn'
	@echo 'make fuzz       a minute of damaged files for each reader; needs a nightly Rust and cargo-fuzz'
	@echo 'make clean      remove what was built'

demo:
	@scripts/demo.sh

build:
	@scripts/prepare.sh build
	@PATH="$$HOME/.cargo/bin:$$PATH" cargo build --release --locked

install:
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' scripts/install.sh install

uninstall:
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' scripts/install.sh uninstall

deb:
	@scripts/deb.sh

wheel:
	@scripts/wheel.sh

test:
	@scripts/prepare.sh test
	@scripts/test.sh

soak:
	@scripts/prepare.sh test
	@FLASHVIDEO_SOAK=10000 RUST_BACKTRACE=1 PATH="$$HOME/.cargo/bin:$$PATH" cargo test --workspace --all-targets --locked --profile bench sequences::nothing

lint:
	@scripts/prepare.sh test
	@scripts/prepare.sh lint
	@scripts/lint.sh

bench:
	@scripts/prepare.sh bench
	@scripts/bench.sh

fuzz:
	@cd fuzz && for target in pickle file sentencepiece; do \
		cargo +nightly fuzz run "$$target" -- -max_total_time=60 -rss_limit_mb=2048 -timeout=10 || exit 1; \
	done

clean:
	rm -rf target build demo
