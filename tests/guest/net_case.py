"""The base of the tests of the bare guest's network cards: the guest as a server, and what ebb says of them."""
import network
from case import BareCase


class NetCase(BareCase):
    address = None  # the guest's

    def serve(self, guest):
        """The guest answers on its first card, until end()."""
        begun = guest.serial.begin(f"net serve 0 {network.number(self.address)}")
        guest.serial.wait("serving", start=begun[2])
        return begun

    def end(self, guest, begun):
        """What the guest has counted; nothing of it was damaged."""
        guest.serial.send("\n")
        counts = guest.serial.finish(begun)
        self.assertEqual(counts["bad"], 0)
        return counts

    def card(self, guest):
        return guest.ctl("status")["nets"][0]
