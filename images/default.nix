# The images, one a board. A board's own facts are in its module; what all images promise to the
# program is in contract.nix.
{ lib, nixosSystem, nixosHardware }:
let
  boards = {
    qemu-virt-aarch64 = {
      system = "aarch64-linux";
      modules = [ ./qemu-virt.nix ];
    };
    qemu-virt-riscv64 = {
      system = "riscv64-linux";
      modules = [ ./qemu-virt.nix ];
    };
  };

  configure = name: { system, modules }: nixosSystem (modules ++ [
    ./contract.nix
    ../appliance/nixos/board.nix
    {
      nixpkgs.hostPlatform = system;
      networking.hostName = lib.mkDefault name;
    }
  ]);
in
{
  configurations = lib.mapAttrs configure boards;

  # Every image, built on machines of `buildSystem`: compiled for the board, not on it.
  packagesFor = buildSystem:
    let
      built = name: { system, modules }:
        (configure name {
          inherit system;
          modules = modules ++ [{ nixpkgs.buildPlatform = buildSystem; }];
        }).config.system.build.boardImage;
    in
    lib.mapAttrs' (name: board: lib.nameValuePair "image-${name}" (built name board)) boards;
}
