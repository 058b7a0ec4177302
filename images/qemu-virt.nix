# QEMU's `virt` machine, ARM64 or RISC-V: the kernel is started by QEMU itself, so the image needs no
# boot loader.
{ config, lib, pkgs, ... }:
let
  # The console that each machine's device tree names.
  console = {
    aarch64-linux = "ttyAMA0";
    riscv64-linux = "ttyS0";
  }.${pkgs.stdenv.hostPlatform.system};
  inherit (config.system.build) kernel initialRamdisk toplevel;
in
{
  boot.initrd.availableKernelModules = [ "virtio_blk" "virtio_mmio" "virtio_net" "virtio_pci" ];
  boot.kernelParams = [ "console=${console}" ];

  # What `roost-qemu boot` takes: --kernel, --initrd, --append and --disk.
  system.build.boardImage = pkgs.runCommand "roost-${config.networking.hostName}" { } ''
    mkdir $out
    ln -s ${kernel}/${config.system.boot.loader.kernelFile} $out/kernel
    ln -s ${initialRamdisk}/${config.system.boot.loader.initrdFile} $out/initrd
    ln -s ${config.system.build.image}/*.raw $out/disk
    echo "init=${toplevel}/init ${toString config.boot.kernelParams}" > $out/cmdline
  '';
}
