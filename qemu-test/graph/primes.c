#include "work.h"

#include <stdlib.h>

unsigned count_primes(unsigned below) {
    char *composite = calloc(below, 1);
    unsigned count = 0;
    if (composite == NULL)
        abort();
    for (unsigned n = 2; n < below; n++) {
        if (composite[n])
            continue;
        count++;
        for (unsigned long m = (unsigned long)n * n; m < below; m += n)
            composite[m] = 1;
    }
    free(composite);
    return count;
}
