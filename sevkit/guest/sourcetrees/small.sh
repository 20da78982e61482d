# Prepares a few files of each program that the published study compiles: enough to run in a guest without KVM, where
# a compiler takes twenty times as long. SOURCES has the tarballs. `compile.sh` is what a campaign times.
set -e

step() { echo "sevkit: $*"; }

# unpack NAME TARBALL [OPTION...]: the tarball as /root/sources/NAME
unpack() {
    step "unpacking and configuring $1"
    folder=/root/sources/$1 tarball=$2
    shift 2
    mkdir -p "$folder"
    tar -xf "$tarball" -C "$folder" --strip-components=1 --no-same-owner "$@"
    cd "$folder"
}

# The kernel with its smallest configuration: three files of lib/, by the commands that its own build used.
unpack linux "$SOURCES"/linux_* --exclude='*/arch/[!x]*/*.[chS]' --exclude='*/drivers/*.c' --exclude='*/drivers/gpu/*.h' \
    --exclude='*/sound/*.c' --exclude='*/fs/*.c' --exclude='*/net/*.c' --exclude='*/Documentation/*.rst'
make tinyconfig
make -j "$(nproc)" prepare lib/sort.o lib/bsearch.o lib/list_sort.o
for name in sort bsearch list_sort; do
    sed -n 's/^\(saved\)\{0,1\}cmd_[^ ]* := //p' "lib/.$name.o.cmd"
done > compile.sh

# Two files of LLVMDemangle, the library on which all others stand.
unpack llvm "$SOURCES"/llvm-toolchain-* --wildcards '*/llvm/lib/Demangle/*' '*/llvm/include/llvm/Demangle/*' \
    '*/llvm/include/llvm/Config/llvm-config.h.cmake'
cd llvm
sed 's/^#cmakedefine.*//' include/llvm/Config/llvm-config.h.cmake > include/llvm/Config/llvm-config.h
for name in Demangle DLangDemangle; do
    echo "g++ -std=c++17 -O3 -fPIC -Iinclude -c lib/Demangle/$name.cpp -o $name.o"
done > ../compile.sh

# Godot's copy of zlib.
unpack godot "$SOURCES"/godot_* --wildcards '*/thirdparty/zlib/*'
for name in inflate inftrees crc32; do
    echo "gcc -O2 -c thirdparty/zlib/$name.c -o $name.o"
done > compile.sh

# One coder of ImageMagick's.
unpack imagemagick "$SOURCES"/imagemagick_* --exclude='*/PerlMagick/demo/*' --exclude='*/www/*'
./configure --without-gcc-arch --disable-docs --without-magick-plus-plus --without-perl
echo "gcc -O2 -fopenmp -DHAVE_CONFIG_H -I. -Iconfig -Imagick -c coders/xc.c -o xc.o" > compile.sh

for name in linux llvm/llvm godot imagemagick; do # what does not compile here would only fail in the guest
    step "compiling a few files of ${name%%/*}"
    script=/root/sources/${name%%/*}/compile.sh
    (cd "/root/sources/$name" && sh -e "$script")
done
