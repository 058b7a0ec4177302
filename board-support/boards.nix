# What is known of each board, by its id: the files of boards/, as the program knows them too
# (src/boards.rs). Fails if a file is not as boards.schema.json says. Needs no nixpkgs.
let
  inherit (builtins) attrNames attrValues concatMap concatStringsSep filter foldl' fromTOML head
    listToAttrs match readDir readFile;

  board = import ./board.nix;

  read = file:
    let
      id = match "([a-z0-9-]+)\\.toml" file;
    in
    if id == null then throw "boards/${file}: a board's file is called ID.toml, ID of a-z, 0-9 and -"
    else { name = head id; value = board (head id) (fromTOML (readFile (./boards + "/${file}"))); };

  boards = listToAttrs (map read (attrNames (readDir ./boards)));

  keys = concatMap (board: [ board.id ] ++ board.compatible) (attrValues boards);
  twice = filter (key: foldl' (n: other: if other == key then n + 1 else n) 0 keys > 1) keys;
in
if twice != [ ] then throw "boards: ${concatStringsSep ", " twice} is there twice" else boards
