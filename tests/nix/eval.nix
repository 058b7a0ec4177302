# The flake's outputs without flakes: for `make nix-eval`, on any Nix and without a network.
#
# `rows` names what there is to evaluate, and costs nothing; `get` evaluates one of them.
{ nixpkgs # a nixpkgs: a path, as text
, nixosHardware ? "" # a nixos-hardware: the same; without it the boards that need it fail
}:
let
  lib = import (nixpkgs + "/lib");

  # As nixpkgs' own flake has them.
  nixpkgsFlake = {
    outPath = nixpkgs;
    lib = lib // {
      nixosSystem = args: import (nixpkgs + "/nixos/lib/eval-config.nix") ({
        inherit lib;
        system = null;
      } // args // {
        # The manual takes a minute, and says nothing of what is asked here.
        modules = [{ documentation.nixos.enable = lib.mkDefault false; }] ++ args.modules;
      });
    };
  };

  hardwareFlake =
    if nixosHardware == "" then
      lib.genAttrs [ "nixosModules" "outPath" ]
        (_: throw "this needs nixos-hardware: give its path, too (NIXOS_HARDWARE=path)")
    else
      { outPath = nixosHardware; } // (import (/. + nixosHardware + "/flake.nix")).outputs {
        self = hardwareFlake;
        nixpkgs = nixpkgsFlake;
      };

  self = (import ../../flake.nix).outputs {
    inherit self;
    nixpkgs = nixpkgsFlake;
    nixos-hardware = hardwareFlake;
  };

  verdicts = import ./modules.nix {
    inherit lib;
    nixosSystem = modules: nixpkgsFlake.lib.nixosSystem {
      modules = [{ nixpkgs.overlays = [ self.overlays.default ]; }] ++ modules;
    };
  };

  drvs = lib.mapAttrs (_: value: value.drvPath);
  nested = prefix: outputs: lib.concatMapAttrs
    (system: values: lib.mapAttrs' (name: lib.nameValuePair "${prefix}.${system}.${name}") values)
    outputs;

  everything =
    lib.mapAttrs'
      (name: configuration: lib.nameValuePair "nixosConfigurations.${name}"
        configuration.config.system.build.toplevel.drvPath)
      self.nixosConfigurations
    // nested "packages" (lib.mapAttrs (_: drvs) self.packages)
    // nested "apps" (lib.mapAttrs (_: lib.mapAttrs (_: app: app.program)) self.apps)
    // nested "devShells" (lib.mapAttrs (_: drvs) self.devShells)
    // nested "checks" (lib.mapAttrs (_: drvs) self.checks)
    // lib.mapAttrs' (system: value: lib.nameValuePair "formatter.${system}" value.drvPath) self.formatter
    // lib.mapAttrs'
      (name: wrong: lib.nameValuePair "modules.${name}"
        (if wrong == [ ] then "as expected" else throw (lib.concatStringsSep "\n" wrong)))
      verdicts;
in
{
  rows = lib.attrNames everything;
  get = name: everything.${name};
}
