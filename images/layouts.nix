# What the medium of each boot layout looks like, without nixpkgs. Sectors are of 512 bytes.
#
# table     gpt, made by systemd-repart, or mbr, made by sd-image, where boot loaders need what GPT takes
# reserve   partitions that come first, for boot loaders: their type and size. The first is at sector
#           2048; together they end where the last of the boot loaders has its room
# move      where the first of them is in the end, if not there: a line for sfdisk
# u_boot    whether it is U-Boot of nixpkgs' that starts the board
# raw       files of the board's U-Boot that are written to fixed sectors, and how many they may take
# fat_mib   size of the FAT volume, where it holds more than the seed, and offset_mib where it is
{
  # The boot ROM reads sector 64, U-Boot's first stage sector 16384 (Rockchip's partition table).
  rockchip = {
    table = "gpt";
    u_boot = true;
    reserve = [
      # Linux reserved, from 1 MiB to 16 MiB.
      { name = "boot"; type = "8da63339-0007-60c0-c436-083ac8230908"; mib = 15; }
    ];
    raw = [
      { file = "idbloader.img"; sector = 64; room = 1984; }
      { file = "u-boot.itb"; sector = 16384; room = 16384; }
    ];
  };

  # The boot ROM takes the partition of the first type, U-Boot's first stage the second partition. The
  # sectors are those of U-Boot's documentation, and of every other image for these boards.
  jh7110 = {
    table = "gpt";
    u_boot = true;
    reserve = [
      { name = "spl"; type = "2e54b353-1271-4842-806f-e436d6af6985"; mib = 3; }
      { name = "u-boot"; type = "5b193300-fc78-40cd-8002-e86c45580b47"; mib = 4; }
    ];
    move = "start=4096, size=4096";
    raw = [
      { file = "u-boot-spl.bin.normal.out"; sector = 4096; room = 4096; }
      { file = "u-boot.itb"; sector = 8192; room = 8192; }
    ];
  };

  uefi = {
    table = "gpt";
    u_boot = false;
  };

  # QEMU, which is given U-Boot as its kernel.
  u-boot = {
    table = "gpt";
    u_boot = true;
  };

  # The boot ROM reads from 8 KiB on, which is in the middle of a GPT's entries.
  allwinner = {
    table = "mbr";
    u_boot = true;
    raw = [{ file = "u-boot-sunxi-with-spl.bin"; sector = 16; room = 16368; }];
  };

  # Firmware, device trees and overlays, with room for a newer one of each beside it.
  raspberry-pi = {
    table = "mbr";
    u_boot = true;
    fat_mib = 128;
  };

  # The boot loader in flash wants it there.
  sg2042 = {
    table = "mbr";
    u_boot = false;
    fat_mib = 128;
    offset_mib = 1;
  };
}
