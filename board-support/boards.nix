# What is known of each board, by its id: the files of boards/, as the program knows them too
# (src/boards.rs). Fails if a file is not as boards.schema.json says. Needs no nixpkgs.
let
  inherit (builtins) attrNames attrValues concatMap concatStringsSep filter foldl' fromJSON fromTOML
    listToAttrs match readDir readFile;

  schema = fromJSON (readFile ./boards.schema.json);
  inherit (import ./schema.nix) check;

  # What a file may leave out is here all the same, so that whoever reads it need not ask.
  complete = id: board: {
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
  };

  read = file:
    let
      id = match "([a-z0-9-]+)\\.toml" file;
      board = fromTOML (readFile (./boards + "/${file}"));
      wrong = check schema board;
    in
    if id == null then throw "boards/${file}: a board's file is called ID.toml, ID of a-z, 0-9 and -"
    else if wrong != [ ] then throw "boards/${file}: ${concatStringsSep "; " wrong}"
    else { name = builtins.head id; value = complete (builtins.head id) board; };

  boards = listToAttrs (map read (attrNames (readDir ./boards)));

  keys = concatMap (board: [ board.id ] ++ board.compatible) (attrValues boards);
  twice = filter (key: foldl' (n: other: if other == key then n + 1 else n) 0 keys > 1) keys;
in
if twice != [ ] then throw "boards: ${concatStringsSep ", " twice} is there twice" else boards
