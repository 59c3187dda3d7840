package runcmd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/controlplane/transport"
	"github.com/sluice-cd/sluice/internal/listen"
)

// listenOptions are the flags of serve that say where it listens.
type listenOptions struct {
	listen    []string // people and hooks
	cells     string   // HOST:PORT; empty: cells name themselves, on this machine
	public    string   // HOST:PORT under which cells reach it; empty: cells
	tlsDir    string   // the control plane's keys; empty: DATA/tls
	cert, key string   // files, for https:// addresses; empty: the active key's own
}

func (d *listenOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&d.listen, "listen", []string{defaultListen},
		"listen for people and hooks at this `ADDRESS`: loopback, unix:///PATH, or https://HOST:PORT; may be repeated")
	f.StringVar(&d.cells, "cells", "",
		"listen for cells at `HOST:PORT`, by mutual TLS that ends here (default: cells have no keys and name "+
			"themselves, on this machine only)")
	f.StringVar(&d.public, "cells-address", "",
		"`HOST:PORT` under which cells reach --cells (default: that of --cells)")
	addTLSDirFlag(cmd, &d.tlsDir)
	f.StringVar(&d.cert, "tls-cert", "",
		"PEM `FILE` with the certificate for https:// addresses (default: one that serve makes)")
	f.StringVar(&d.key, "tls-key", "", "PEM `FILE` with the private key of --tls-cert")
}

// validate checks the flags against each other, before anything is opened.
func (d *listenOptions) validate(cmd *cobra.Command) error {
	if (d.cert == "") != (d.key == "") {
		return cli.UsageError(cmd, "--tls-cert and --tls-key go together")
	}
	if d.cells == "" {
		if d.public != "" {
			return cli.UsageError(cmd,
				"--cells-address is the address under which cells reach --cells, which is missing")
		}
		return nil
	}
	host, _, err := net.SplitHostPort(d.cells)
	if err != nil {
		return cli.UsageError(cmd, "--cells %q is not HOST:PORT, such as 0.0.0.0:7601", d.cells)
	}
	if d.public == "" {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			return cli.UsageError(cmd,
				"cells can't dial %q: give the address under which they reach it with --cells-address HOST:PORT",
				d.cells)
		}
		return nil
	}
	if host, port, err := net.SplitHostPort(d.public); err != nil || host == "" || port == "" || port == "0" {
		return cli.UsageError(cmd, "--cells-address %q is not HOST:PORT, such as sluice.example.com:443", d.public)
	}
	return nil
}

// listeners are what serve listens on. The caller closes them.
type listeners struct {
	all    []net.Listener
	tlsDir string          // of keys
	keys   *transport.Keys // nil: none are needed
	public string          // HOST:PORT under which cells reach it; empty: they have no listener
}

func (e *listeners) Close() error {
	var errs []error
	for _, l := range e.all {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// cellKeys returns the keys to present to cells; nil: there is no listener for cells.
func (e *listeners) cellKeys() *transport.Keys {
	if e.public == "" {
		return nil
	}
	return e.keys
}

// openListeners listens on every address, or on none.
func (d *listenOptions) openListeners(data string) (e *listeners, err error) {
	e = &listeners{}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	cert, err := d.certificate(data, e)
	if err != nil {
		return e, err
	}
	for _, at := range d.listen {
		var l net.Listener
		if path, ok := strings.CutPrefix(at, "unix://"); ok {
			l, err = listen.Unix(path)
		} else if addr, ok := strings.CutPrefix(at, "https://"); ok {
			l, err = transport.ListenPeople(strings.TrimSuffix(addr, "/"), cert)
		} else {
			l, err = listen.Loopback(strings.TrimSuffix(strings.TrimPrefix(at, "http://"), "/"))
		}
		if err != nil {
			return e, cli.Fail(err, "choose another with --listen: loopback, unix:///PATH, or https://HOST:PORT")
		}
		e.all = append(e.all, l)
	}
	if d.cells == "" {
		return e, nil
	}
	l, err := transport.ListenCells(d.cells, e.keys)
	if err != nil {
		return e, cli.Fail(err, "choose another with --cells HOST:PORT")
	}
	e.all = append(e.all, l)
	if e.public = d.public; e.public == "" {
		host, _, _ := net.SplitHostPort(d.cells) // checked
		_, port, _ := net.SplitHostPort(l.Addr().String())
		e.public = net.JoinHostPort(host, port)
	}
	return e, nil
}

// certificate returns the certificate for people's listeners. It opens the keys if a listener needs them.
func (d *listenOptions) certificate(data string, e *listeners) (cert tls.Certificate, err error) {
	secure := false
	for _, at := range d.listen {
		secure = secure || strings.HasPrefix(at, "https://")
	}
	if d.cells != "" || secure && d.cert == "" {
		dir := keysFolder(data, d.tlsDir)
		e.tlsDir = dir
		if e.keys, err = transport.OpenKeys(dir); err != nil {
			return cert, cli.Fail(err, "--tls-dir names the folder of the control plane's keys; replicas share it")
		}
		cert = e.keys.Certificate()
	}
	if d.cert != "" {
		if cert, err = transport.LoadKeyPair(d.cert, d.key); err != nil {
			return cert, cli.Fail(fmt.Errorf("read --tls-cert and --tls-key: %w", err),
				"both are PEM; the certificate file begins with the server's own certificate")
		}
	}
	return cert, nil
}

func printListeners(a *cli.App, e *listeners) {
	for i, l := range e.all {
		if e.public != "" && i == len(e.all)-1 {
			a.Stdout.PrintLine("listening for cells on %s, which they reach as %s", l.Addr(), e.public)
			continue
		}
		a.Stdout.PrintLine("listening on %s", transport.ListenerURL(l))
	}
	if e.keys != nil {
		a.Stdout.PrintLine("active key %s", e.keys.Pins[0])
		a.Stdout.PrintLine("standby key %s", e.keys.Pins[1])
		if e.keys.StandbyHere {
			a.Stdout.PrintLine("standby.key is on this machine: whoever takes the machine over has it too; move it away with " +
				"sluice standby-key move --to FILE")
		}
	}
}
