# `make demo` shows what the project does, `make test` whether it works. Both install what they need.

.PHONY: help demo test lint bench clean

help:
	@echo 'make demo    install, build, and enhance the clip in examples/media: demo/out.mp4, demo/side_by_side.png;'
	@echo '             clips from three prompts, as made and as enhanced: demo/storybook.png'
	@echo 'make test    install what the tests need and run them all'
	@echo 'make lint    formatting and clippy'
	@echo 'make bench   speed on this machine, beside PyTorch, ONNX Runtime and ncnn'
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

clean:
	rm -rf target build demo
