# What `nix flake check` builds on one system.
#
# boots  what boot.nix has for this system
{ boots, lib, nixosConfigurations, nixosModules, nixosSystem, nixpkgs, pkgs }:
let
  inherit (pkgs.stdenv.hostPlatform) system;

  # Evaluates to the end, and builds next to nothing: a board's system would be compiled for hours on a
  # machine of another architecture.
  evaluated = name: configuration: pkgs.writeText "${name}-evaluates"
    (builtins.unsafeDiscardStringContext configuration.config.system.build.toplevel.drvPath);

  role = modules: nixosSystem (modules ++ [
    ../../appliance/nixos/example.nix
    { nixpkgs.hostPlatform = system; }
  ]);

  verdicts = import ./modules.nix { inherit lib nixosSystem; };
  failed = lib.filterAttrs (_: verdict: verdict != [ ]) verdicts;

  nixFiles = lib.fileset.toSource {
    root = ../..;
    fileset = lib.fileset.fileFilter (file: file.hasExt "nix") ../..;
  };
in
lib.mapAttrs' (name: lib.nameValuePair "board-${name}")
  (lib.mapAttrs evaluated nixosConfigurations)
// {
  # The package's own tests run while it is built.
  inherit (pkgs) roost;

  role-board = evaluated "board" (role [ nixosModules.board { services.roost.board.enable = true; } ]);
  role-client = evaluated "client" (role [ nixosModules.client { services.roost.client.enable = true; } ]);
  # Built: sshd and the program check their configurations then.
  role-both = (role [
    nixosModules.board
    nixosModules.client
    { services.roost = { board.enable = true; client.enable = true; }; }
  ]).config.system.build.toplevel;

  modules =
    if failed == { } then
      pkgs.writeText "modules-verified" (lib.concatLines (lib.attrNames verdicts))
    else
      throw "tests/nix/modules.nix:\n${lib.generators.toPretty { } failed}";

  format = pkgs.runCommand "nix-files-formatted" { nativeBuildInputs = [ pkgs.nixpkgs-fmt ]; } ''
    nixpkgs-fmt --check ${nixFiles}
    touch $out
  '';
} // lib.optionalAttrs (system != "riscv64-linux") {
  # There the machines of the test would be emulated, and take hours to boot.
  vm = import ./vm.nix { inherit lib nixosModules nixpkgs pkgs; };
} // lib.optionalAttrs (system == "aarch64-linux") {
  # The cache has all that is in this image, but roost. Elsewhere, and for RISC-V, a whole system would be
  # compiled.
  inherit (boots) boot-qemu-aarch64-virt;
}
