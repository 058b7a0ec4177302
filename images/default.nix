# The images, one a board that has one. What a board is, is data of board-support/; what its medium looks
# like, is data of layouts.nix; what all images promise to the program is in contract.nix.
#
# nixosSystem    a list of modules -> a NixOS system, with roost among its packages
# nixosHardware  nixos-hardware's flake
{ lib, nixosSystem, nixosHardware }:
let
  boards = lib.filterAttrs (_: board: board.missing == null) (import ../board-support/boards.nix);
  layouts = import ./layouts.nix;
  tables = {
    gpt = ./gpt.nix;
    mbr = ./sd.nix;
  };

  configure = modules: board:
    let
      layout = layouts.${board.boot.layout}
        or (throw "boards/${board.id}.toml: layouts.nix does not know the layout ${board.boot.layout}");
    in
    nixosSystem ([
      (import ../board-support/nixos { inherit board nixosHardware; })
      (import ./contract.nix board)
      (import tables.${layout.table} board layout)
      ../appliance/nixos/board.nix
    ] ++ modules);
in
{
  # One a board, by its id.
  configurations = lib.mapAttrs (_: configure [ ]) boards;

  # `image-ID` for every board, built on machines of `buildSystem`: compiled for the board, not on it.
  packagesFor = buildSystem:
    lib.mapAttrs'
      (id: board: lib.nameValuePair "image-${id}"
        (configure [{ nixpkgs.buildPlatform = buildSystem; }] board).config.system.build.boardImage)
      boards;
}
