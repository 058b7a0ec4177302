#include "work.h"

#include <stdio.h>
#include <sys/utsname.h>

int main(void) {
    struct utsname name;
    uint8_t digest[32];
    if (uname(&name) != 0)
        return 1;
    sha256((const uint8_t *)"abc", 3, digest);
    printf("machine %s\nprimes %u\nsha256 ", name.machine, count_primes(1000000));
    for (int i = 0; i < 32; i++)
        printf("%02x", digest[i]);
    printf("\n");
    return 0;
}
