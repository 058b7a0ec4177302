# The keys of roost.toml as options, read from the page that documents them: names, types and
# descriptions have one source, and a test of the program compares it with the program.
#
# Every option is null unless it is set, and then left out of the file: defaults stay the program's.
{ lib, anything }:
let
  page = ../../docs/configuration.md;

  # A row `| key | default | meaning |` as an option. The type is that of the default.
  option = default: meaning:
    let
      json = builtins.fromJSON default;
      types = {
        bool = lib.types.bool;
        int = lib.types.ints.unsigned;
        string = lib.types.str;
        list = lib.types.listOf lib.types.str;
      };
    in
    lib.mkOption {
      type = lib.types.nullOr (
        if default == "" then anything else types.${builtins.typeOf json} or anything
      );
      default = null;
      defaultText = lib.literalMD (
        if default == "" then "the program decides" else "the program's own: `${default}`"
      );
      description = meaning;
    };

  line = read: text:
    let
      heading = builtins.match "## `\\[([a-z_]+)]`.*" text;
      row = builtins.match "\\| `([a-z_]+)` \\| (`([^|]*)` )?\\| (.*) \\|" text;
      default = lib.elemAt row 2;
    in
    if heading != null then
      read // { section = lib.head heading; }
    else if row != null then
      read // {
        options = lib.recursiveUpdate read.options {
          ${read.section}.${lib.head row} =
            option (if default == null then "" else default) (lib.last row);
        };
      }
    else
      read;

  start = { section = null; options = { }; };
in
(lib.foldl line start (lib.splitString "\n" (builtins.readFile page))).options
