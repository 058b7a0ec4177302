# The images for QEMU's machines, booted as a board boots them, by firmware, until the console says that there
# is no seed: `boot-ID` for each of them. It is a virtual machine that boots them, in which roost-qemu emulates
# the board.
#
# images  what images/ has for the system of `pkgs`: image-ID
{ lib, nixpkgs, pkgs, images }:
let
  nixos = import "${nixpkgs}/nixos/lib" { inherit lib; };
  inherit (pkgs) roost-qemu;

  # Boards without a SoC are emulated ones.
  boards = lib.filterAttrs (_: board: board.missing == null && board.soc == null)
    (import ../../board-support/boards.nix);

  boot = board:
    let
      image = images."image-${board.id}";
      arch = lib.removeSuffix "-linux" board.system;
      firmware = {
        uefi = "${roost-qemu.qemu}/share/qemu/edk2-${arch}-code.fd";
        u-boot = "${image.direct}/u-boot";
      }.${board.boot.layout};
    in
    nixos.runTest {
      name = "boot-${board.id}";
      hostPkgs = pkgs;

      nodes.machine = {
        environment.systemPackages = [ roost-qemu pkgs.zstd ];
        virtualisation = {
          cores = 2;
          diskSize = 8192;
          memorySize = 3072;
        };
      };

      # What a board says on its console goes to the test's log, as commands' standard error does.
      testScript = ''
        machine.wait_for_unit("multi-user.target")
        machine.succeed("unzstd --quiet -o /root/board.img ${image}/*.img.zst")
        # A card is larger than the image, and the root grows to it.
        machine.succeed("truncate --size=+1G /root/board.img")
        machine.succeed(
            "roost-qemu boot --arch ${arch} --image /root/board.img --firmware ${firmware} "
            "--wait-for 'Not enrolled, and not reachable by anyone' --timeout-s 2400 >&2"
        )
      '';
    };
in
lib.mapAttrs' (id: board: lib.nameValuePair "boot-${id}" (boot board)) boards
