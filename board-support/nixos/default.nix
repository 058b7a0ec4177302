# A NixOS module made from a board's data: its kernel, device tree, console and boot loader, on top of
# nixos-hardware's module where there is one.
#
#   imports = [
#     (import ./board-support/nixos {
#       board = (import ./board-support/boards.nix).rock-5b;
#       nixosHardware = inputs.nixos-hardware;
#     })
#   ];
#
# board          what boards.nix has under a board's id. For a board of your own, what board.nix makes
#                of its id and a set like those in boards/: import ./board-support/board.nix "my-board" { ... }
# nixosHardware  nixos-hardware's flake, which has `nixosModules` and is a path; null will do for a
#                board whose data names no module of it, and whose boot layout is not sg2042
#
# What it sets can be set otherwise with lib.mkForce. File systems are not its concern: images/ has
# those of the images.
{ board, nixosHardware ? null }:
{ lib, options, pkgs, ... }:
let
  layouts = {
    allwinner = ./extlinux.nix;
    jh7110 = ./jh7110.nix;
    raspberry-pi = ./raspberry-pi.nix;
    rockchip = ./rockchip.nix;
    sg2042 = ./sg2042.nix;
    u-boot = ./extlinux.nix;
    uefi = ./uefi.nix;
  };
  layout = layouts.${board.boot.layout}
    or (throw "boards/${board.id}.toml: there is no NixOS module for the boot layout ${board.boot.layout}");

  hardware =
    if nixosHardware == null then
      throw "boards/${board.id}.toml: it starts from nixos-hardware, which was not given"
    else nixosHardware.nixosModules.${board.nixos_hardware}
      or (throw "boards/${board.id}.toml: nixos-hardware has no module ${board.nixos_hardware}");

  mended = ./mended + "/${board.nixos_hardware}.nix";

  uBoot = pkgs.${board.boot.u_boot} or (throw "boards/${board.id}.toml: nixpkgs has no ${board.boot.u_boot}");
in
{
  imports = [
    (import layout { inherit board nixosHardware; })
  ] ++ lib.optionals (board.nixos_hardware != null) (
    [ hardware ] ++ lib.optional (builtins.pathExists mended) mended
  );

  options.hardware.roost = {
    uBoot = lib.mkOption {
      type = lib.types.nullOr lib.types.package;
      description = "The U-Boot that starts this board.";
    };
    firmwareFiles = lib.mkOption {
      type = lib.types.nullOr lib.types.package;
      default = null;
      description = "A folder that goes onto the first FAT volume of this board's medium.";
    };
  };

  config = {
    hardware.roost.uBoot = lib.mkDefault (if board.boot.u_boot == null then null else uBoot);

    nixpkgs.hostPlatform = lib.mkDefault board.system;
    nixpkgs.config = lib.mkIf (board.unfree != [ ]) {
      allowUnfreePredicate = package: lib.elem (lib.getName package) board.unfree;
    };

    boot.loader.grub.enable = false;
    boot.initrd.availableKernelModules = board.kernel.initrd_modules;

    # nixpkgs' kernel of long-term support knows all of these boards, is fixed for years, and comes
    # compiled from the cache for ARM64. It outranks what nixos-hardware would have.
    boot.kernelPackages = lib.mkIf (board.kernel.source == "mainline")
      (lib.mkOverride 900 pkgs.linuxPackages);

    # The last one is /dev/console.
    boot.kernelParams = lib.mkAfter [ "console=${board.console}" ];

    # Without the filter each generation has the device trees of all boards in /boot. A virtual machine
    # brings its own.
    hardware.deviceTree =
      if board.soc == null then { enable = false; }
      else
        lib.mkIf (board.kernel.device_tree != null) {
          name = board.kernel.device_tree;
          filter = baseNameOf board.kernel.device_tree;
        };
  } // lib.optionalAttrs (options.boot.initrd ? allowMissingModules) {
    # nixos-hardware lists modules that not every kernel has. The images check that those are there
    # which the board's data names.
    boot.initrd.allowMissingModules = lib.mkIf (board.nixos_hardware != null) true;
  };
}
