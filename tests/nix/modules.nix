{ lib, nixosSystem, system }: { }
