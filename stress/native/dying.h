/* An extension that dies at a chosen step: the compiler includes this before everything else.

   stress/harness/dying.py sets shmq_steps_left in a child that is to die. */

#ifndef SHMQ_DYING_H
#define SHMQ_DYING_H

#include <signal.h>
#include <unistd.h>

/* Weak, because each unit of the extension includes this. */
__attribute__((weak)) long shmq_steps_left = -1; /* steps to live; negative: immortal */

__attribute__((weak)) void shmq_dying_step(void)
{
    if (shmq_steps_left == 0) {
        kill(getpid(), SIGKILL);
    }
    shmq_steps_left -= shmq_steps_left > 0;
}

#define SHMQ_STEP(label) shmq_dying_step()

#endif
