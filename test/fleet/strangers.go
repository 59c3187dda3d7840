package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/test/figures"
	"github.com/sluice-cd/sluice/test/swarm"
)

// maxReportDelay is how long strangers may delay a known cell's report (R57).
const maxReportDelay = time.Second

// reporterCells is how many cells report, in turn: one alone would reach its rate limit.
const reporterCells = 100

// floodOptions say what strangers do: they open PerSecond connections a second, or keep Open connections open.
type floodOptions struct {
	Address         string
	PerSecond, Open int
	First           string // bytes sent at once
	Protocol        string // of the TLS handshake, by nobody's key; empty: none is made
	Repeated        string // sent again and again, until the server closes the connection
}

// flood is the work of a child that plays strangers.
type flood struct {
	made, failed atomic.Int64
	stop         context.CancelFunc
	running      sync.WaitGroup
}

func floodCommands() commands {
	f := &flood{}
	return commands{"start": commandOf(f.start), "end": commandOf(f.end)}
}

func (f *flood) start(o floodOptions) (any, error) {
	dialer, err := swarm.NewDialer(swarm.ControlPlane{Addresses: []string{o.Address}},
		swarm.Members("nobody", 1, keySeed))
	if err != nil {
		return nil, err
	}
	config := dialer.StrangerConfig(0, o.Protocol)
	// Strangers are on other machines: theirs are not the processors that server and cells need.
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, 10); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	for range o.Open {
		f.running.Go(func() {
			for ctx.Err() == nil {
				f.visit(ctx, o, config)
				sleep(ctx, time.Second/10) // where the server refuses
			}
		})
	}
	if o.PerSecond > 0 {
		f.running.Go(func() {
			ticks := time.NewTicker(time.Second / time.Duration(o.PerSecond))
			defer ticks.Stop()
			for ctx.Err() == nil {
				select {
				case <-ticks.C:
					f.running.Go(func() { f.visit(ctx, o, config) })
				case <-ctx.Done():
				}
			}
		})
	}
	return nil, nil
}

// end ends the flood, and returns how many connections were made.
func (f *flood) end(struct{}) (any, error) {
	f.stop()
	f.running.Wait()
	return f.made.Swap(0), nil
}

// visit is one connection, until the server or the flood ends it.
func (f *flood) visit(ctx context.Context, o floodOptions, config *tls.Config) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", o.Address)
	if err != nil {
		f.failed.Add(1)
		return
	}
	f.made.Add(1)
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	defer c.Close()                                     //nolint:errcheck // a stranger's
	_ = c.SetDeadline(time.Now().Add(30 * time.Second)) // longer than the server allows
	if o.Protocol != "" {
		_ = c.(*net.TCPConn).SetWriteBuffer(64 << 10) // what the server never reads is not encrypted
		c = tls.Client(c, config)
	}
	if _, err := io.WriteString(c, o.First); err != nil {
		return
	}
	if o.Repeated == "" {
		_, _ = io.Copy(io.Discard, c)
		return
	}
	go func() { _, _ = io.Copy(io.Discard, c) }()
	for err == nil {
		_, err = io.WriteString(c, o.Repeated)
	}
}

// http2Frames returns n frames by RFC 9113, section 4.1.
func http2Frames(n int, kind, flags byte, stream uint32, payload string) string {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))[1:]
	head = append(head, kind, flags)
	return strings.Repeat(string(binary.BigEndian.AppendUint32(head, stream))+payload, n)
}

// strangerKind is a kind of strangers.
type strangerKind struct {
	what  string
	flood floodOptions
	short bool // a third of the time suffices
}

func strangerKinds() []strangerKind {
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	hello := preface + http2Frames(1, 4, 0, 0, "")
	resets := ""
	for stream := uint32(1); stream < 400; stream += 2 {
		resets += http2Frames(1, 1, 5, stream, "\x82\x87\x84") + http2Frames(1, 3, 0, stream, "\x00\x00\x00\x08")
	}
	http2 := func(what, repeated string) strangerKind {
		return strangerKind{"HTTP/2, " + what + ", 100 connections/s",
			floodOptions{PerSecond: 100, Protocol: "h2", First: hello, Repeated: repeated}, true}
	}
	return []strangerKind{
		{"500 silent connections/s", floodOptions{PerSecond: 500}, false},
		{"500 connections/s with one byte", floodOptions{PerSecond: 500, First: "\x16"}, true},
		{"2,000 idle TLS connections", floodOptions{Open: 2000, Protocol: "http/1.1"}, true},
		http2("rapid reset", resets),
		http2("continuation", http2Frames(1, 1, 1, 1, "\x82\x87\x84")+http2Frames(1000, 9, 0, 1, "")),
		http2("settings", http2Frames(1000, 4, 0, 0, "")),
		http2("ping", http2Frames(1000, 6, 0, 0, "12345678")),
	}
}

// underFlood is what was measured while strangers came.
type underFlood struct {
	kept, fresh []time.Duration // of reports, over kept connections and over new ones
	rss         int64           // bytes, the most
	descriptors int             // the most
	cpu         float64         // processors of the server
}

// measureStrangers measures the reports of known cells at rest, and while strangers come in each way.
func (b *bench) measureStrangers(ctx context.Context) ([]figures.Row, error) {
	f, err := b.prepareFleet(ctx, reporterCells, "")
	if err != nil {
		return nil, err
	}
	defer f.stop()
	dialer, err := swarm.NewDialer(f.controlPlane(), swarm.Members(cellPrefix, reporterCells, keySeed))
	if err != nil {
		return nil, err
	}
	strangers, err := startChild(ctx, "flood")
	if err != nil {
		return nil, err
	}
	defer strangers.stop()
	rest, err := b.reportFor(ctx, f, dialer, b.floodLength/3)
	if err != nil {
		return nil, err
	}
	rows := []figures.Row{rest.usageRow("at rest", rest)}
	for _, k := range strangerKinds() {
		lasts := b.floodLength
		if k.short {
			lasts /= 3
		}
		k.flood.Address = f.cellAddress
		if err := strangers.call("start", k.flood, nil); err != nil {
			return nil, err
		}
		got, err := b.reportFor(ctx, f, dialer, lasts)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.what, err)
		}
		var made int64
		if err := strangers.call("end", struct{}{}, &made); err != nil {
			return nil, err
		}
		rows = append(rows,
			delayRow(k.what+": a report's p99", got.kept, rest.kept),
			delayRow("  a report's p99 over a new connection", got.fresh, rest.fresh),
			got.usageRow(fmt.Sprintf("  %d connections", made), rest))
	}
	return rows, nil
}

func delayRow(what string, got, rest []time.Duration) figures.Row {
	p99 := percentile99(got)
	return figures.Row{What: what, Got: figures.Time(p99),
		Base:  fmt.Sprintf("at rest %s, limit %s", figures.Time(percentile99(rest)), figures.Time(maxReportDelay)),
		Ratio: float64(p99) / float64(maxReportDelay), Limit: 1}
}

func (u underFlood) usageRow(what string, rest underFlood) figures.Row {
	return figures.NoteRow(what+": memory; descriptors; processors",
		fmt.Sprintf("%d MiB; %d; %.2f", u.rss>>20, u.descriptors, u.cpu),
		fmt.Sprintf("at rest %d MiB; %d; %.2f", rest.rss>>20, rest.descriptors, rest.cpu))
}

func percentile99(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)*99/100]
}

// reportFor has cells report for a while, 50 times a second over kept connections, and 10 over new ones.
func (b *bench) reportFor(ctx context.Context, f *fleet, dialer *swarm.Dialer, lasts time.Duration) (u underFlood,
	err error) {
	pid := f.cmd.Process.Pid
	before, err := readUsage(pid)
	if err != nil {
		return u, err
	}
	kept := make([]*swarm.Conn, reporterCells)
	defer func() {
		for _, c := range kept {
			if c != nil {
				c.Close()
			}
		}
	}()
	begun := time.Now()
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for n := 0; time.Since(begun) < lasts; n++ {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return u, ctx.Err()
		}
		i := n % reporterCells
		if kept[i] == nil {
			if kept[i], err = dialer.Dial(ctx, i, 0); err != nil {
				return u, err
			}
		}
		took, err := timeReport(kept[i], i)
		if err != nil {
			return u, err
		}
		u.kept = append(u.kept, took)
		if n%5 > 0 {
			continue
		}
		if took, err = b.reportAnew(ctx, dialer, i); err != nil {
			return u, err
		}
		u.fresh = append(u.fresh, took)
		now, err := readUsage(pid)
		if err != nil {
			return u, err
		}
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return u, err
		}
		u.rss, u.descriptors = max(u.rss, now.rss), max(u.descriptors, len(open))
		u.cpu = (now.cpu - before.cpu).Seconds() / time.Since(begun).Seconds()
	}
	return u, nil
}

// reportAnew times a connection, its handshake and a report.
func (b *bench) reportAnew(ctx context.Context, dialer *swarm.Dialer, i int) (time.Duration, error) {
	begun := time.Now()
	c, err := dialer.Dial(ctx, i, 0)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_, err = timeReport(c, i)
	return time.Since(begun), err
}

func timeReport(c *swarm.Conn, i int) (time.Duration, error) {
	begun := time.Now()
	body := fmt.Sprintf(`{"cell":"%s-%05d","boot":"strangers","sent":%q,"state":"pending"}`, cellPrefix, i,
		begun.UTC().Format(time.RFC3339Nano))
	a, text, err := c.RoundTrip(time.Minute, "POST", "/v1/reports", "", []byte(body))
	if err == nil && a.Status != 200 {
		err = fmt.Errorf("the answer to a report is %d: %.300s", a.Status, text)
	}
	return time.Since(begun), err
}
