# Unpacks and configures what the published study compiles. Runs once, in the root file system of the image `study`:
# SOURCES has the tarballs. All arms of a campaign start from the same configured trees.
set -e

step() { echo "sevkit: $*"; }

# unpack NAME FOLDER TARBALL [MEMBER...]: the tarball, or these members of its top folder, as /root/sources/FOLDER
unpack() {
    step "unpacking $1"
    folder=/root/sources/$1 tarball=$2
    shift 2
    mkdir -p "$folder"
    top=$(tar -tf "$tarball" 2>/dev/null | head -n 1)
    for member; do
        set -- "$@" "${top%%/*}/$member"
        shift
    done
    tar -xf "$tarball" -C "$folder" --strip-components=1 --no-same-owner "$@"
    step "configuring ${folder##*/}"
}

unpack linux "$SOURCES"/linux_*
# Debian leaves out two drivers, but not the lines that name their folders, without which `make clean` fails.
for driver in nvidia riva; do
    mkdir -p /root/sources/linux/drivers/video/fbdev/$driver
    touch /root/sources/linux/drivers/video/fbdev/$driver/Makefile
done
make -C /root/sources/linux defconfig
# What `make clean` leaves: without it the first compilation would do more than those after it.
make -C /root/sources/linux -j "$(nproc)" scripts prepare
unpack llvm "$SOURCES"/llvm-toolchain-* llvm cmake third-party
cmake -G Ninja -S /root/sources/llvm/llvm -B /root/sources/llvm/build -DCMAKE_BUILD_TYPE=Release
unpack godot "$SOURCES"/godot_*
unpack imagemagick "$SOURCES"/imagemagick_*
cd /root/sources/imagemagick
./configure --without-gcc-arch # not tuned for the machine on which the image is built

step "cleaning, as before each sample" # what does not work here would only fail in the guest
make -s -C /root/sources/linux clean
ninja -C /root/sources/llvm/build -t clean
make -s -C /root/sources/imagemagick clean
cd /root/sources/godot
scons -c platform=x11
