{
  description = "Turns ARM64 and RISC-V boards into native Nix builders that find their users by themselves";

  inputs.nixpkgs.url = "https://channels.nixos.org/nixos-26.05/nixexprs.tar.xz";

  outputs =
    { self, nixpkgs }:
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
      images = import ./images {
        inherit lib;
        nixosSystem = modules: lib.nixosSystem {
          modules = [{ nixpkgs.overlays = [ self.overlays.default ]; }] ++ modules;
        };
      };
    in
    {
      overlays.default = final: _: { roost = final.callPackage ./appliance/package.nix { }; };

      formatter = forSystems (pkgs: pkgs.nixpkgs-fmt);

      nixosModules = {
        board = withPackage ./appliance/nixos/board.nix;
        client = withPackage ./appliance/nixos/client.nix;
      };

      nixosConfigurations = images.configurations;

      packages = forSystems (pkgs: {
        default = pkgs.roost;
        inherit (pkgs) roost;
      } // images.packagesFor pkgs.stdenv.hostPlatform.system);

      apps = forSystems (pkgs: {
        default = self.apps.${pkgs.stdenv.hostPlatform.system}.roost;
        roost = {
          type = "app";
          program = lib.getExe pkgs.roost;
        };
        # The lab is made of Debian roots and namespaces: it needs root and a checkout.
        demo = {
          type = "app";
          program = lib.getExe (pkgs.writeShellApplication {
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
        };
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

      checks = forSystems (pkgs:
        let
          inherit (pkgs.stdenv.hostPlatform) system;
        in
        {
          # The package's own tests run while it is built.
          inherit (pkgs) roost;
          modules = (lib.nixosSystem {
            modules = [
              self.nixosModules.board
              self.nixosModules.client
              ./appliance/nixos/example.nix
              { nixpkgs.hostPlatform = system; }
            ];
          }).config.system.build.toplevel;
        });
    };
}
