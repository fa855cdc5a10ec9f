#!/usr/bin/env python3
"""Stands in for systemd's logind, by which the kubelet learns that its machine shuts down: logind.py ADDRESS

Serves what the kubelet asks on the bus at ADDRESS. On SIGUSR1 it announces a shutdown, waits until everybody who wanted to
delay it is done, and ends: with 0 if there was anybody.
"""

import os
import signal
import sys

from jeepney import DBusAddress, HeaderFields, MessageType, new_error, new_method_return, new_signal
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection

MANAGER = "org.freedesktop.login1.Manager"
# More than any kubelet asks for, so that it does not want to change logind's configuration.
DELAY_MAX_MICROSECONDS = 3600 * 1_000_000


def answer(message, inhibitors):
    """The answer to a call; an inhibitor lasts until the other end of its pipe is closed."""
    member = message.header.fields[HeaderFields.member]
    if member == "Get" and message.body[1] == "InhibitDelayMaxUSec":
        return new_method_return(message, "v", (("t", DELAY_MAX_MICROSECONDS),)), None
    if member == "Inhibit":
        ours, theirs = os.pipe()
        inhibitors.append(ours)
        return new_method_return(message, "h", (theirs,)), theirs
    return new_error(message, "org.freedesktop.DBus.Error.UnknownMethod"), None


def main():
    connection = open_dbus_connection(bus=sys.argv[1], enable_fds=True)
    connection.send_and_get_reply(message_bus.RequestName("org.freedesktop.login1"))
    inhibitors = []

    def shut_down(_signal, _frame):
        manager = DBusAddress("/org/freedesktop/login1", interface=MANAGER)
        connection.send(new_signal(manager, "PrepareForShutdown", "b", (True,)))
        for inhibitor in inhibitors:
            os.read(inhibitor, 1)
        sys.exit(0 if inhibitors else 1)

    signal.signal(signal.SIGUSR1, shut_down)
    print("ready", flush=True)
    while True:
        message = connection.receive()
        if message.header.message_type == MessageType.method_call:
            reply, file = answer(message, inhibitors)
            connection.send(reply)
            if file is not None:
                os.close(file)


main()
