# U-Boot, which looks for extlinux.conf on the partition that is marked as bootable.
_:
{
  boot.loader.generic-extlinux-compatible = {
    enable = true;
    configurationLimit = 8;
  };
}
