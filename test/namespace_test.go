package test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// insideVariable is set in the child that has its own network namespace.
const insideVariable = "SLUICE_TEST_NAMESPACE"

// The addresses of the two ends of the cable.
const (
	planeAddress = "10.77.0.1"
	cellAddress  = "10.77.0.2"
)

// end is one end of the cable: a network device with an address.
type end struct{ device, address string }

// TestD5CellBehindOneCable checks invariant 6 in the kernel. The control plane and a cell are in network namespaces
// with one cable between them. The cell registers, installs, updates and rolls back, and a person debugs it. The cell
// listens on nothing beyond loopback, and no packet of the control plane begins a connection.
func TestD5CellBehindOneCable(t *testing.T) {
	if os.Getenv(insideVariable) == "" {
		t.Parallel()
		enterNamespace(t)
		return
	}
	cable := newCable(t, end{"plane", planeAddress}, end{"cell", cellAddress})
	var writeKey func(file string) error
	w := newWorld(t, func(files map[string]string) {
		delete(files, "cells/acme/cell.yaml")
		delete(files, "cells/eu-1/cell.yaml")
		var err error
		if writeKey, err = addPerson(files); err != nil {
			t.Fatal(err)
		}
	})
	listen := planeAddress + ":7443"
	w.server.args = append(w.server.args, "--cells", listen)
	w.server.start()
	w.eventually(func() (string, bool) {
		return "the control plane is not ready", w.getJSON("/readyz", new([]byte)) == nil
	})
	token := w.addCell("acme", "staging")

	agent := w.process("acme", "agent", "--dir", w.path("cells", "acme"), "--health", healthCommand, "--health-timeout",
		"300ms",
		"--healthy-for", "0s", "--health-every", "200ms", "--report-every", "200ms", "--heal-every", "300ms")
	agent.prefix = cable.enterThere()
	agent.args = append(agent.args, "--join", "@"+token)
	agent.start()
	w.agents["acme"] = agent
	w.cutRelease("1.0.0", "first")
	w.awaitRelease("acme", "1.0.0")
	agent.stop()
	agent.args = agent.args[:len(agent.args)-2] // the agent has a key now
	agent.start()
	w.cutRelease("1.0.1", "second")
	w.awaitRelease("acme", "1.0.1")
	w.cutRelease("1.0.2", "broken")
	w.eventually(func() (string, bool) {
		return "1.0.2 is not quarantined", w.readCommitted("quarantine/1.0.2.yaml") != ""
	})
	w.awaitRelease("acme", "1.0.1")

	sockets := []string{"ss", "--no-header", "--listening", "--tcp", "--udp", "--numeric"}
	if err := writeKey(w.path("key")); err != nil {
		t.Fatal(err)
	}
	w.debugCell("acme", w.path("key"), func() { // D5
		if listening := cable.runThere(t, sockets...); listening != "" {
			t.Errorf("while a debug session lasts, something listens in the cell: %s", listening)
		}
	})
	listening := cable.runThere(t, sockets...)
	for line := range strings.Lines(listening) {
		if fields := strings.Fields(line); len(fields) > 4 {
			if at, err := netip.ParseAddrPort(fields[4]); err != nil || !at.Addr().IsLoopback() {
				t.Errorf("a process in the cell listens beyond loopback: %s", line)
			}
		}
	}
	began := cable.begunByEnd()
	if began[planeAddress] != 0 {
		t.Errorf("the control plane dialled out %d times", began[planeAddress])
	}
	if began[cellAddress] == 0 {
		t.Error("the capture saw no connection at all: it proves nothing")
	}
	t.Logf("connections begun on the cable: %v; sockets that listen in the cell: %q", began, listening)
}

// enterNamespace runs the test again in a child with its own network namespace. A user other than root first becomes
// root of a user namespace.
func enterNamespace(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"ip", "ss", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: install iproute2 and util-linux", tool)
		}
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.timeout=5m"}
	c := exec.CommandContext(t.Context(), os.Args[0], args...) //nolint:gosec
	c.Env = append(os.Environ(), insideVariable+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("in a namespace of its own: %v (it takes root, or user namespaces)\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "connections begun") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// cable is a veth pair: one end here, the other in a namespace of its own, there.
type cable struct {
	here  string // the device
	there int    // process that holds the other namespace open

	mu    sync.Mutex
	begun map[connection]int
}

// connection is who began a connection, and to where.
type connection struct {
	from netip.Addr
	to   netip.AddrPort
}

func (c connection) String() string { return c.from.String() + " to " + c.to.String() }

func newCable(t *testing.T, here, there end) *cable {
	t.Helper()
	holder := exec.Command("sleep", "infinity") //nolint:noctx // ends with the test
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	})
	c := &cable{here: here.device, there: holder.Process.Pid, begun: map[connection]int{}}
	runIP(t, "link", "set", "lo", "up")
	runIP(t, "link", "add", here.device, "type", "veth", "peer", "name", there.device, "netns", strconv.Itoa(c.there))
	runIP(t, "address", "add", here.address+"/30", "dev", here.device)
	runIP(t, "link", "set", here.device, "up")
	c.runThere(t, "ip", "link", "set", "lo", "up")
	c.runThere(t, "ip", "address", "add", there.address+"/30", "dev", there.device)
	c.runThere(t, "ip", "link", "set", there.device, "up")
	c.captureConnections(t)
	return c
}

func runIP(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// enterThere returns the command that runs another in the other namespace.
func (c *cable) enterThere() []string {
	return []string{"nsenter", "--target", strconv.Itoa(c.there), "--net", "--"}
}

func (c *cable) runThere(t *testing.T, args ...string) string {
	t.Helper()
	args = append(c.enterThere(), args...)
	out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput() //nolint:gosec // a test's
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// captureConnections counts the connections that are begun on the cable: TCP segments with SYN and without ACK, and
// UDP.
func (c *cable) captureConnections(t *testing.T) {
	t.Helper()
	everything := int(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, syscall.ETH_P_ALL)))
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, everything)
	if err != nil {
		t.Fatalf("capture packets: %v", err)
	}
	index := c.interfaceIndex(t)
	address := syscall.SockaddrLinklayer{Protocol: uint16(everything), Ifindex: index} //nolint:gosec // fits
	if err := syscall.Bind(fd, &address); err != nil {
		t.Fatalf("capture packets: %v", err)
	}
	wait := syscall.NsecToTimeval(int64(100 * time.Millisecond))
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &wait); err != nil {
		t.Fatalf("capture packets: %v", err)
	}
	var reading sync.WaitGroup
	done := make(chan struct{})
	reading.Go(func() {
		packet := make([]byte, 2048)
		for {
			n, _, err := syscall.Recvfrom(fd, packet, 0)
			if err == nil {
				c.countPacket(packet[:n])
			}
			select {
			case <-done:
				return
			default:
			}
			if err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR) {
				return
			}
		}
	})
	t.Cleanup(func() {
		close(done)
		reading.Wait()
		_ = syscall.Close(fd)
	})
}

func (c *cable) interfaceIndex(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/sys/class/net/" + c.here + "/ifindex")
	if err != nil { // /sys shows the first namespace: ask ip
		out, err := exec.CommandContext(t.Context(), "ip", "-o", "link", "show", c.here).Output()
		if err != nil {
			t.Fatal(err)
		}
		text, _, _ = bytes.Cut(out, []byte(":"))
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// countPacket counts an IPv4 packet if it begins a connection.
func (c *cable) countPacket(p []byte) {
	const tcp, udp, syn, ack = 6, 17, 0x02, 0x10
	if len(p) < 20 || p[0]>>4 != 4 {
		return
	}
	header := int(p[0]&15) * 4
	if len(p) < header+4 {
		return
	}
	began := p[9] == udp
	if p[9] == tcp && len(p) > header+13 {
		flags := p[header+13]
		began = flags&syn != 0 && flags&ack == 0
	}
	if began {
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[16:20])), binary.BigEndian.Uint16(p[header+2:]))
		c.mu.Lock()
		defer c.mu.Unlock()
		c.begun[connection{netip.AddrFrom4([4]byte(p[12:16])), to}]++
	}
}

// begunConnections returns how often each connection was begun so far.
func (c *cable) begunConnections() map[connection]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.begun)
}

func (c *cable) begunByEnd() map[string]int {
	by := map[string]int{planeAddress: 0, cellAddress: 0}
	for one, n := range c.begunConnections() {
		by[one.from.String()] += n
	}
	return by
}

// mustRunSluice runs a verb, and requires success.
func (w *world) mustRunSluice(args ...string) string {
	w.t.Helper()
	out, err := w.runSluice(args...)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, w.describe())
	}
	return out
}

// addCell adds a cell, and returns the file with its one-time token.
func (w *world) addCell(cell, channel string) string {
	w.t.Helper()
	file := w.path(fmt.Sprintf("%s-%d.token", cell, time.Now().UnixNano()))
	w.mustRunSluice("cell", "add", cell, "--channel", channel, "--repo", w.repo, "--data", w.path("data"),
		"--token-file", file)
	return file
}
