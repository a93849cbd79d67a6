#!/usr/bin/env bash
# Builds for NVIDIA GPUs on a machine that needs neither a GPU nor CUDA. Usage: cuda.sh [CARGO ARGUMENTS…]
#
# The toolchain comes from PyPI. Without arguments it builds the whole binary and leaves it, stripped and compressed, in
# target/cuda/milepost.xz; with arguments it runs cargo with them, such as: cuda.sh test -p milepost-learners --features cuda
#
# CUDA_COMPUTE_CAP: 80 (A100), 86 (RTX 30), 89 (RTX 40, L4), 90 (H100, H200; the default).
# MILEPOST_CUDA: the directory of the toolchain and of the build.
set -euo pipefail
cd "$(dirname "$0")/.."
home=${MILEPOST_CUDA:-$HOME/.cache/milepost/cuda}
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}

# CUDA 13.0 is used, so that drivers from version 580 on can run the binary.
packages=(nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-crt nvidia-nvvm nvidia-cuda-nvrtc nvidia-cuda-cccl nvidia-cublas)
if [ ! -e "$home/ready" ]; then
  echo "== toolchain from PyPI into $home"
  python3 -m venv "$home/venv"
  "$home/venv/bin/pip" install -q "${packages[@]/%/==13.0.*}" nvidia-curand
  root=$(echo "$home"/venv/lib/python3*/site-packages/nvidia/cu13)
  # The linker looks for library names without a version, and build scripts look for the directory lib64.
  for name in cublas cublasLt curand nvrtc cudart; do
    versioned=$(find "$root/lib" -name "lib$name.so.*" ! -name '*alt*' | sort | head -n 1)
    [ -n "$versioned" ] || { echo "lib$name is not in $root/lib; remove $home and run this again" >&2; exit 1; }
    ln -sf "$(basename "$versioned")" "$root/lib/lib$name.so"
  done
  ln -sfn lib "$root/lib64"
  # The driver's library exists only on machines with a GPU; this empty stub has its name, for linking.
  echo | cc -shared -x c - -Wl,-soname,libcuda.so.1 -o "$root/lib/libcuda.so"
  ln -sfn "$root" "$home/toolkit"
  touch "$home/ready"
fi

root=$home/toolkit
export CUDA_HOME=$root CUDA_PATH=$root CUDA_ROOT=$root CUDA_TOOLKIT_ROOT_DIR=$root
export PATH=$root/bin:$PATH LIBRARY_PATH=$root/lib${LIBRARY_PATH:+:$LIBRARY_PATH}
# If a target is set, cargo does not apply the flags to build scripts, which run on this machine, without a driver.
export CARGO_BUILD_TARGET=$(rustc -vV | sed -n 's/^host: //p')
# The stub of the driver's library is empty: without --no-as-needed the linker would drop it from the libraries that the program loads.
# RUSTFLAGS replaces the flags of .cargo/config.toml, which are therefore repeated here.
[ "$(uname -m)" = x86_64 ] && cpu=(-C target-cpu=x86-64-v3) || cpu=()
flags=("${cpu[@]}" -L "native=$root/lib" -C link-arg=-Wl,--unresolved-symbols=ignore-in-object-files -C link-arg=-Wl,--no-as-needed,-lcuda,--as-needed)
export RUSTFLAGS="${RUSTFLAGS:-} ${flags[*]}"
export CARGO_TARGET_DIR=$home/target

if [ $# -gt 0 ]; then
  exec cargo "$@"
fi
cargo build --locked --features cuda --bin milepost
out=target/cuda
mkdir -p "$out"
strip -o "$out/milepost" "$CARGO_TARGET_DIR/$CARGO_BUILD_TARGET/debug/milepost"
xz -T0 -3 -f "$out/milepost"
ls -lh "$out/milepost.xz"
cat <<'END'
Where the GPU is: unxz milepost.xz, put the CUDA 13 libraries (those that come with PyTorch do: site-packages/nvidia/**/lib) on
LD_LIBRARY_PATH, and start it with learn.device=cuda (MILEPOST_LEARN__DEVICE=cuda) or improve.update {device: cuda}.
END
