# Shell commands that write a board's boot loaders to where the layout has them on `$image`.
{ lib, board, layout, uBoot }:
lib.concatMapStrings
  ({ file, sector, room }: ''
    if [ "$(stat --format %s ${uBoot}/${file})" -gt $((${toString room} * 512)) ]; then
      echo "boards/${board.id}.toml: ${file} has no room in ${toString room} sectors" >&2
      exit 1
    fi
    dd if=${uBoot}/${file} of=$image seek=${toString sector} conv=notrunc,sparse status=none
  '')
  (layout.raw or [ ])
