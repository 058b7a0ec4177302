# A board as its file describes it, with what the file left out: null, or an empty list. Fails if the
# description is not as boards.schema.json says. Needs no nixpkgs.
id: board:
let
  inherit (builtins) concatStringsSep fromJSON readFile;
  inherit (import ./schema.nix) check;
  wrong = check (fromJSON (readFile ./boards.schema.json)) board;
in
if wrong != [ ] then throw "boards/${id}.toml: ${concatStringsSep "; " wrong}"
else {
  inherit id;
  soc = null;
  nixos_hardware = null;
  unfree = [ ];
  quirks = [ ];
  first_boot = null;
  missing = null;
} // board // {
  kernel = { device_tree = null; initrd_modules = [ ]; } // board.kernel;
  boot = { u_boot = null; } // board.boot;
}
