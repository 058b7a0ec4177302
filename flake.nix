{
  description = "Turns ARM64 and RISC-V boards into native Nix builders that find their users by themselves";

  inputs = {
    nixpkgs.url = "https://channels.nixos.org/nixos-26.05/nixexprs.tar.xz";
    nixos-hardware = {
      url = "github:NixOS/nixos-hardware";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  outputs =
    { self, nixpkgs, nixos-hardware }:
    let
      inherit (nixpkgs) lib;
      # Boards and the machines that use them; images are built on any of them.
      systems = [ "x86_64-linux" "aarch64-linux" "riscv64-linux" ];
      forSystems = f: lib.genAttrs systems (system: f (import nixpkgs {
        inherit system;
        overlays = [ self.overlays.default ];
      }));
      # A module that brings the package with it.
      withPackage = module: {
        imports = [ module ];
        nixpkgs.overlays = [ self.overlays.default ];
      };
      nixosSystem = modules: lib.nixosSystem {
        modules = [{ nixpkgs.overlays = [ self.overlays.default ]; }] ++ modules;
      };
      images = import ./images {
        inherit lib nixosSystem;
        nixosHardware = nixos-hardware;
      };
      # VM tests of the images. They are packages, of which few are checks: most of the images would be
      # compiled for hours.
      boots = pkgs:
        let
          inherit (pkgs.stdenv.hostPlatform) system;
        in
        lib.optionalAttrs (system != "riscv64-linux") (import ./tests/nix/boot.nix {
          inherit lib nixpkgs pkgs;
          images = images.packagesFor system;
        });
    in
    {
      overlays.default = final: _: {
        roost = final.callPackage ./appliance/package.nix { };
        roost-qemu = final.callPackage ./qemu-test/package.nix { };
      };

      formatter = forSystems (pkgs: pkgs.nixpkgs-fmt);

      nixosModules = {
        board = withPackage ./appliance/nixos/board.nix;
        client = withPackage ./appliance/nixos/client.nix;
      } // lib.mapAttrs'
        (id: board: lib.nameValuePair "hardware-${id}" (import ./board-support/nixos {
          inherit board;
          nixosHardware = nixos-hardware;
        }))
        (import ./board-support/boards.nix);

      nixosConfigurations = images.configurations;

      packages = forSystems (pkgs: {
        default = pkgs.roost;
        inherit (pkgs) roost roost-qemu;
      } // images.packagesFor pkgs.stdenv.hostPlatform.system // boots pkgs);

      apps = forSystems (pkgs:
        let
          app = program: {
            type = "app";
            program = lib.getExe program;
          };
        in
        {
          default = app pkgs.roost;
          roost = app pkgs.roost;
          flash = app (pkgs.writeShellApplication {
            name = "roost-flash";
            runtimeInputs = [ pkgs.roost ];
            text = ''exec roost flash "$@"'';
          });
          # The lab is made of Debian roots and namespaces: it needs root and a checkout.
          demo = app (pkgs.writeShellApplication {
            name = "roost-demo";
            runtimeInputs = with pkgs; [
              cargo
              gcc
              gnumake
              iproute2
              mmdebstrap
              openssh
              rustc
              util-linux
            ];
            text = ''
              if [ ! -e tests/root/build.sh ]; then
                echo "roost-demo: run this as root in a checkout of roost" >&2
                exit 1
              fi
              exec make demo
            '';
          });
        });

      devShells = forSystems (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ pkgs.roost ];
          packages = with pkgs; [
            cargo-deny
            clippy
            mmdebstrap
            nixpkgs-fmt
            qemu
            rustfmt
            shellcheck
          ];
        };
      });

      checks = forSystems (pkgs: import ./tests/nix/checks.nix {
        inherit lib nixosSystem nixpkgs pkgs;
        inherit (self) nixosConfigurations nixosModules;
        boots = boots pkgs;
      });
    };
}
