# A machine with everything but roost as small as it can be: for checks, and to copy from. The flake's
# module `board`, `client` or both are added to it.
{
  services.roost.settings.queue.min_free_mib = 4096;

  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  boot.loader.grub.enable = false;
  system.stateVersion = "26.05";
}
