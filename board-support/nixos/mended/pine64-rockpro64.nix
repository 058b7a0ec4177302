# Its fan control names devices by numbers that follow the order in which drivers load; the kernel drives
# the fan by its own trip points. Its console is the screen unless told otherwise.
{
  hardware.fancontrol.enable = false;
  hardware.rockpro64.console = "serial";
}
