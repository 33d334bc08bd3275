# `make demo` shows what the project does, `make test` whether it works. Both install what they need.

.PHONY: help demo test lint bench fuzz clean

help:
	@echo 'make demo    install, build, and enhance the clip in examples/media: demo/out.mp4, demo/side_by_side.png;'
	@echo '             clips from three prompts, as made and as enhanced: demo/storybook.png'
	@echo 'make test    install what the tests need and run them all'
	@echo 'make lint    formatting and clippy'
	@echo 'make bench   speed on this machine, beside PyTorch, ONNX Runtime and ncnn'
	@echo 'make fuzz    a minute of damaged files for each reader; needs a nightly Rust and cargo-fuzz'
	@echo 'make clean   remove what was built'

demo:
	@scripts/demo.sh

test:
	@scripts/prepare.sh test
	@scripts/test.sh

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
