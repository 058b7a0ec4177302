{ lib, nixosModules, nixpkgs, pkgs }: pkgs.hello
