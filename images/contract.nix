# What every image promises to the program, and to whoever flashes it: a FAT volume for the seed, which
# says what the image is; a root that grows to the medium on first boot, with the program's state; a Nix
# database that knows the store it came with; generations that can be updated and gone back to.
board:
{ config, lib, modulesPath, options, pkgs, ... }:
let
  names = lib.importJSON ../appliance/names.json;
  inherit ((lib.importTOML ../Cargo.toml).workspace.package) version;
  cfg = config.roost.image;
  name = "roost-${version}-${board.id}";
  inherit (config.system.build) kernel initialRamdisk toplevel;
  # What makes the image runs where it is made.
  tools = pkgs.buildPackages;

  boardImage = tools.runCommand name
    {
      nativeBuildInputs = with tools; [ kmod util-linux zstd ];
      passthru = { inherit direct; };
    } ''
    # The image would be built without them, and not start.
    for module in ${toString ([ "ext4" ] ++ board.kernel.initrd_modules)}; do
      if ! modprobe --dirname ${config.system.modulesTree} \
        --set-version ${config.boot.kernelPackages.kernel.modDirVersion} \
        --show-depends "$module" > /dev/null; then
        echo "boards/${board.id}.toml: the kernel has no module $module" >&2
        exit 1
      fi
    done

    image=${name}.img
    cp --sparse=always --no-preserve=mode ${cfg.unfinished} $image
    ${cfg.finish}
    mkdir -p $out/nix-support
    zstd -19 --threads=$NIX_BUILD_CORES --no-progress $image -o $out/$image.zst
    echo "file image $out/$image.zst" > $out/nix-support/hydra-build-products
  '';

  # To start it without its boot loader: what QEMU takes as -kernel, -initrd and -append. Its U-Boot, where
  # it has one, is taken as -kernel, too.
  direct = tools.runCommand "${name}-direct" { } ''
    mkdir $out
    ln -s ${kernel}/${config.system.boot.loader.kernelFile} $out/kernel
    ln -s ${initialRamdisk}/${config.system.boot.loader.initrdFile} $out/initrd
    echo "init=${toplevel}/init ${toString config.boot.kernelParams}" > $out/cmdline
    ${lib.optionalString (board.boot.layout == "u-boot" && config.hardware.roost.uBoot != null) ''
      ln -s ${config.hardware.roost.uBoot}/u-boot.bin $out/u-boot
    ''}
  '';
in
{
  imports = [ "${modulesPath}/profiles/minimal.nix" ];

  options.roost.image = {
    description = lib.mkOption {
      type = lib.types.package;
      internal = true;
      default = pkgs.writeText names.image_file (builtins.toJSON { board = board.id; inherit version; });
      description = "The file on the seed's volume that says what this image is.";
    };
    boot = lib.mkOption {
      type = lib.types.package;
      internal = true;
      default = tools.runCommand "boot" { } ''
        mkdir $out
        ${config.boot.loader.generic-extlinux-compatible.populateCmd} -c ${toplevel} -d $out
      '';
      description = "The folder /boot of boards that start with U-Boot.";
    };
    registration = lib.mkOption {
      type = lib.types.str;
      internal = true;
      default = "/nix-path-registration";
      description = "The file on the root with what `nix-store --load-db` takes.";
    };
    unfinished = lib.mkOption {
      type = lib.types.str;
      internal = true;
      description = "The image without boot loaders, as a path that the shell may expand.";
    };
    finish = lib.mkOption {
      type = lib.types.lines;
      internal = true;
      description = "What makes `$image` ready to be flashed.";
    };
  };

  config = lib.mkMerge [
    {
      services.roost.board.enable = true;
      networking.hostName = lib.mkDefault board.id;

      system.build = { inherit boardImage; };
      system.image.id = "roost-${board.id}";
      system.image.version = version;
      system.nixos.variant_id = board.id;

      # Without this the database of a fresh image is empty, and garbage collection takes the system. The
      # file is removed last: a boot that is cut short loads it again, which does no harm.
      systemd.services.nix-path-registration = {
        description = "Tell Nix which paths this image came with";
        wantedBy = [ "multi-user.target" ];
        before = [ "nix-daemon.service" "nix-daemon.socket" "roost.service" ];
        unitConfig = {
          ConditionPathExists = cfg.registration;
          DefaultDependencies = false;
          RequiresMountsFor = "/nix";
        };
        after = [ "local-fs.target" ];
        serviceConfig.Type = "oneshot";
        script = ''
          ${lib.getExe' config.nix.package "nix-store"} --load-db < ${cfg.registration}
          # The first generation: later ones are made beside it, and gone back from.
          ${lib.getExe' config.nix.package "nix-env"} --profile /nix/var/nix/profiles/system \
            --set /run/current-system
          sync --file-system /nix/var/nix/db
          rm ${cfg.registration}
        '';
      };

      # A build writes thousands of files, and reads each of them.
      fileSystems."/".options = [ "noatime" ];

      # What grows file systems once the partition has grown.
      boot.initrd.systemd = {
        enable = true;
      } // lib.optionalAttrs (options.boot.initrd.systemd ? tpm2) {
        # Its modules are not in every kernel, and nothing here is sealed by a TPM.
        tpm2.enable = false;
      };

      # Nobody is there to press a key: a kernel that panics starts anew, and so does a system that hangs,
      # where the board has a watchdog. Some SoCs' watchdogs count to 16 s and no further.
      boot.kernelParams = [ "panic=30" ];

      # Nobody has a password. Who holds a seed's console key logs in as root by it.
      services.openssh.settings = {
        PasswordAuthentication = false;
        KbdInteractiveAuthentication = false;
        PermitRootLogin = "prohibit-password";
      };

      # The seed may carry a network for it.
      networking.wireless.iwd.enable = board.soc != null;

      # nixpkgs' sources, which nobody evaluates on a board.
      nix.channel.enable = false;
      nixpkgs.flake = {
        setFlakeRegistry = false;
        setNixPath = false;
      };

      documentation.enable = false;
      system.stateVersion = "26.05";
    }
    # The option has another name since NixOS 25.11.
    {
      systemd =
        if options.systemd ? settings
        then { settings.Manager.RuntimeWatchdogSec = "15s"; }
        else { watchdog.runtimeTime = "15s"; };
    }
  ];
}
