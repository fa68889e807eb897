// SPDX-License-Identifier: Apache-2.0
// Addresses of this host and of others, as text. Linux only.
#pragma once
#include <stddef.h>

/// Room for an address with its zone.
#define CP_ADDRESS_SIZE 96

/// Turns a host name or a literal address into an address, an IPv4 one where there is one: 4 or 6, or -1 when there is
/// none. Asks name servers, so it may take seconds.
int cp_resolve(const char *host, char address[CP_ADDRESS_SIZE]);
/// The address of this host from which packets to a literal address would leave; nothing is sent. 0, or -1 when no route
/// leads there.
int cp_address_towards(const char *destination, char address[CP_ADDRESS_SIZE]);
/// The addresses of this host's interfaces that are up, loopback and link-local ones left out, with a line each as
/// "ADDRESS INTERFACE"; how many there are, or -1.
int cp_interface_addresses(int is_ipv6, char *lines, size_t byte_count);
/// Whether there is an interface of this name.
int cp_is_interface(const char *name);
