/* A kernel's /dev/ipmi0 for one process: preloaded, it answers the ioctls of <linux/ipmi.h> on any file.

   SIM_IPMI names a file with the controller's state, read at each request:
       completion code, watts now, state of the meter, milliseconds until the answer
   The structures and numbers are the kernel's own header's: the monitor has its own idea of them. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/ioctl.h>
#include <linux/ipmi.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long pending_id;
static unsigned pending_ms;
static unsigned char answer[32];
static unsigned short answer_bytes;

static int send_command(const struct ipmi_req *request)
{
    const struct ipmi_system_interface_addr *address = (const void *)request->addr;
    if (request->addr_len < sizeof *address || address->addr_type != IPMI_SYSTEM_INTERFACE_ADDR_TYPE ||
        address->channel != IPMI_BMC_CHANNEL || address->lun != 0) {
        errno = EINVAL;
        return -1;
    }
    static const unsigned char reading[] = {0xDC, 1, 0, 0};
    unsigned code = 0, watts = 0, state = 0;
    const char *path = getenv("SIM_IPMI");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (file == NULL || fscanf(file, "%u %u %u %u", &code, &watts, &state, &pending_ms) != 4) {
        errno = EIO;
        return -1;
    }
    fclose(file);
    const struct ipmi_msg *message = &request->msg;
    memset(answer, 0, sizeof answer);
    pending_id = request->msgid;
    answer_bytes = 1;
    if (message->netfn != 0x2C || message->cmd != 2 || message->data_len != sizeof reading ||
        memcmp(message->data, reading, sizeof reading) != 0) {
        answer[0] = 0xC1;
        return 0;
    }
    answer[0] = (unsigned char)code;
    if (code == 0) {
        struct __attribute__((packed)) {
            unsigned char code, group;
            unsigned short now, least, most, mean;
            unsigned seconds, period_ms;
            unsigned char state;
        } said = {0, 0xDC, (unsigned short)watts, 1, 65535, (unsigned short)watts, 1, 1000,
                  (unsigned char)state};
        memcpy(answer, &said, sizeof said);
        answer_bytes = sizeof said;
    }
    return 0;
}

static int receive(struct ipmi_recv *received)
{
    if (pending_ms)
        usleep(pending_ms * 1000);
    if (received->msg.data_len < answer_bytes) {
        errno = EMSGSIZE;
        return -1;
    }
    received->recv_type = IPMI_RESPONSE_RECV_TYPE;
    received->msgid = pending_id;
    received->msg.netfn = 0x2D;
    received->msg.cmd = 2;
    received->msg.data_len = answer_bytes;
    memcpy(received->msg.data, answer, answer_bytes);
    return 0;
}

int ioctl(int fd, unsigned long number, ...)
{
    va_list arguments;
    va_start(arguments, number);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (number == IPMICTL_SEND_COMMAND)
        return send_command(argument);
    if (number == IPMICTL_RECEIVE_MSG_TRUNC)
        return receive(argument);
    int (*next)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    return next(fd, number, argument);
}
