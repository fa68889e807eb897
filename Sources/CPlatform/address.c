// SPDX-License-Identifier: Apache-2.0
#include "cplatform_address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int as_text(const struct sockaddr *address, socklen_t length, char text[CP_ADDRESS_SIZE]) {
    return getnameinfo(address, length, text, CP_ADDRESS_SIZE, NULL, 0, NI_NUMERICHOST);
}

int cp_resolve(const char *host, char address[CP_ADDRESS_SIZE]) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all;
    if (getaddrinfo(host, NULL, &hints, &all) != 0) return -1;
    int found = -1;
    for (int pass = 0; pass < 2 && found < 0; pass++) {
        int family = pass == 0 ? AF_INET : AF_INET6;
        for (struct addrinfo *one = all; one != NULL && found < 0; one = one->ai_next) {
            if (one->ai_family != family || as_text(one->ai_addr, one->ai_addrlen, address) != 0) continue;
            found = family == AF_INET ? 4 : 6;
        }
    }
    freeaddrinfo(all);
    return found;
}

int cp_address_towards(const char *destination, char address[CP_ADDRESS_SIZE]) {
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST}, *all;
    if (getaddrinfo(destination, "9", &hints, &all) != 0) return -1;
    int result = -1;
    int fd = socket(all->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_storage own;
    socklen_t length = sizeof own;
    // Connecting a datagram socket asks the routing table and sends nothing.
    if (fd >= 0 && connect(fd, all->ai_addr, all->ai_addrlen) == 0
        && getsockname(fd, (struct sockaddr *)&own, &length) == 0
        && as_text((struct sockaddr *)&own, length, address) == 0) {
        result = 0;
    }
    if (fd >= 0) close(fd);
    freeaddrinfo(all);
    return result;
}

int cp_interface_addresses(int is_ipv6, char *lines, size_t byte_count) {
    struct ifaddrs *all;
    if (getifaddrs(&all) != 0) return -1;
    int count = 0;
    size_t used = 0;
    if (byte_count > 0) lines[0] = 0;
    for (struct ifaddrs *one = all; one != NULL; one = one->ifa_next) {
        if (one->ifa_addr == NULL || !(one->ifa_flags & IFF_UP) || (one->ifa_flags & IFF_LOOPBACK)) continue;
        if (one->ifa_addr->sa_family != (is_ipv6 ? AF_INET6 : AF_INET)) continue;
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)one->ifa_addr;
        if (is_ipv6 && IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr)) continue;
        char text[CP_ADDRESS_SIZE];
        socklen_t length = is_ipv6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
        if (as_text(one->ifa_addr, length, text) != 0) continue;
        int written = snprintf(lines + used, byte_count - used, "%s %s\n", text, one->ifa_name);
        if (written < 0 || (size_t)written >= byte_count - used) break;
        used += (size_t)written;
        count++;
    }
    freeifaddrs(all);
    return count;
}

int cp_is_interface(const char *name) { return if_nametoindex(name) != 0; }
