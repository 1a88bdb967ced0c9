package udp

import (
	"errors"
	"net/netip"
)

// Echo implements kernel.
func (system) Echo(int, netip.Addr) (echoSocket, error) {
	return nil, errors.New("no echo")
}
