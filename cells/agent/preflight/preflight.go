// Package preflight looks, before a cell registers, whether all is there that its agent needs: the way to the control
// plane, its key, the time, disk, and the infrastructure. Every fault has its remedy.
//
// It changes nothing: no token is sent, nothing is registered, and of a folder only a file is written that is gone
// afterwards. Look may be called at once.
package preflight

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/cells/infrastructure"
	"github.com/sluice-cd/sluice/internal/words"
)

// Finding is what came of one check.
type Finding struct {
	Check  string `json:"check"`
	Found  string `json:"found,omitempty"`  // what was found, if all is well
	Fault  string `json:"fault,omitempty"`  // empty: all is well
	Remedy string `json:"remedy,omitempty"` // of the fault
	Note   bool   `json:"note,omitempty"`   // the cell works nevertheless
}

// String returns a finding as one line.
func (f Finding) String() string {
	if f.Fault == "" {
		return f.Check + ": " + f.Found
	}
	return words.OneLine(f.Check + ": " + f.Fault + ": " + f.Remedy)
}

// Options say what is looked at.
type Options struct {
	ControlPlane   ControlPlane
	Folders        []string              // that the agent writes to; they need not be there yet
	Infrastructure infrastructure.Reader // nil: its number is fixed
}

// ControlPlane is a plane.Client.
type ControlPlane interface {
	Address() string
	// Probe returns the control plane's time; zero: it said none.
	Probe(ctx context.Context) (time.Time, error)
}

const (
	// timeout bounds the whole look.
	timeout = 30 * time.Second
	// leastSpace is what three releases, their manifests and the outbox take on the disk.
	leastSpace = 512 << 20
	// clockNote is how far clocks may differ: from then on AWS refuses signed requests.
	clockNote = 5 * time.Minute
)

// Look makes all checks.
func Look(ctx context.Context, o Options) []Finding {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	at, err := o.ControlPlane.Probe(ctx)
	all := []Finding{judgeProbe(err, o.ControlPlane.Address())}
	if err == nil && !at.IsZero() {
		all = append(all, judgeTime(at, time.Now()))
	}
	folders := slices.Clone(o.Folders)
	slices.Sort(folders)
	for _, dir := range slices.Compact(folders) {
		all = append(all, checkFolder(dir))
	}
	if o.Infrastructure != nil {
		all = append(all, checkInfrastructure(ctx, o.Infrastructure)...)
	}
	return all
}

// Faults returns the findings that keep the cell from working, or that people should know of.
func Faults(all []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(all), func(f Finding) bool { return f.Fault == "" })
}

// judgeProbe says what the connection to the control plane shows.
func judgeProbe(err error, address string) Finding {
	var (
		name   *net.DNSError
		record tls.RecordHeaderError
		late   net.Error
	)
	switch {
	case err == nil:
		return Finding{Check: "control plane", Found: address + " answers, with the pinned key"}
	case errors.As(err, &name) && name.IsTimeout:
		return Finding{Check: "dns", Fault: fmt.Sprintf("no name server answers for %s", name.Name),
			Remedy: "let this machine ask a name server (UDP and TCP 53); in a VPC, turn on enableDnsSupport"}
	case errors.As(err, &name):
		return Finding{Check: "dns", Fault: fmt.Sprintf("the name %s is unknown here", name.Name),
			Remedy: "use the name that resolves here: with AWS PrivateLink, pass the endpoint's own name as --server " +
				"https://NAME:PORT; in a VPC, turn on enableDnsSupport and enableDnsHostnames"}
	case errors.Is(err, identity.ErrPinMismatch):
		return Finding{Check: "pin", Fault: "what answers at " + address + " has another key than the control plane's",
			Remedy: "let nothing decrypt TLS on the way (a proxy, or a load balancer with a TLS listener instead of TCP); " +
				"if the control plane has new keys, ask the vendor for a new token"}
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return Finding{Check: "pin", Fault: "what answers at " + address + " does not speak TLS",
			Remedy: "check the port: it is that of the vendor's listener for cells"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return Finding{Check: "reach", Fault: address + " refuses connections",
			Remedy: "check the port, and that the control plane and the load balancer before it are running"}
	case errors.As(err, &late) && late.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return Finding{Check: "reach", Fault: address + " does not answer in time",
			Remedy: "let this machine open TCP connections to it, in firewalls, security groups and network ACLs; with AWS " +
				"PrivateLink, the endpoint must be accepted, and in the zones (AZ IDs) that the vendor's service is in"}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return Finding{Check: "reach", Fault: "there is no route to " + address,
			Remedy: "add a route or an endpoint, or name a proxy in HTTPS_PROXY"}
	case errors.Is(err, syscall.ECONNRESET):
		return Finding{Check: "reach", Fault: "something between here and " + address + " cuts the connection",
			Remedy: "let TLS 1.3 pass unchanged"}
	}
	return Finding{Check: "reach", Fault: fmt.Sprintf("%s can't be reached: %v", address, err),
		Remedy: "open the way to it, or name a proxy in HTTPS_PROXY"}
}

// judgeTime compares the control plane's time with this machine's.
func judgeTime(theirs, ours time.Time) Finding {
	ahead := ours.Sub(theirs)
	if ahead.Abs() < clockNote {
		return Finding{Check: "time", Found: "within five minutes of the control plane's"}
	}
	word := "ahead of"
	if ahead < 0 {
		word = "behind"
	}
	return Finding{Check: "time", Note: true,
		Fault:  fmt.Sprintf("this machine's clock is %s %s the control plane's", ahead.Abs().Round(time.Second), word),
		Remedy: "synchronise it (NTP): the agent goes by the control plane's time, but AWS and logs do not"}
}

// checkFolder looks whether a folder, or the nearest folder above it that is there, can be written to.
func checkFolder(dir string) Finding {
	at := dir
	for {
		info, err := os.Stat(at)
		if err == nil && !info.IsDir() {
			return Finding{Check: "disk", Fault: at + " is no folder", Remedy: "remove it, or name another folder"}
		}
		if err == nil || filepath.Dir(at) == at {
			break
		}
		at = filepath.Dir(at)
	}
	f, err := os.CreateTemp(at, ".sluice-preflight-")
	if err == nil {
		_, err = f.WriteString("x")
		err = errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
	}
	var disk syscall.Statfs_t
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return Finding{Check: "disk", Fault: "there is no room in " + at, Remedy: "free space there"}
	case errors.Is(err, syscall.EROFS):
		return Finding{Check: "disk", Fault: at + " is read-only", Remedy: "mount it for writing, or name another folder"}
	case err != nil:
		return Finding{Check: "disk", Fault: "this user can't write to " + at,
			Remedy: "make " + dir + " a folder of the agent's user"}
	case syscall.Statfs(at, &disk) == nil && disk.Bavail*uint64(disk.Bsize) < leastSpace: //nolint:unconvert // macOS
		return Finding{Check: "disk", Note: true,
			Fault: fmt.Sprintf("%s has %d MiB left", at, disk.Bavail*uint64(disk.Bsize)>>20),
			Remedy: fmt.Sprintf("free some: three releases, their manifests and what waits to be reported take up to "+
				"%d MiB", leastSpace>>20)}
	}
	return Finding{Check: "disk", Found: dir + " can be written to"}
}

// Inspector is an infrastructure.Reader that looks by itself whether it has what it needs.
type Inspector interface {
	Inspect(ctx context.Context) []Finding
}

func checkInfrastructure(ctx context.Context, r infrastructure.Reader) (all []Finding) {
	if i, ok := r.(Inspector); ok {
		all = i.Inspect(ctx)
	}
	is, err := r.Read(ctx)
	if err != nil {
		return append(all, Finding{Check: "infrastructure", Note: true,
			Fault:  words.Clip(words.OneLine(err.Error()), 1000),
			Remedy: "mend that; the agent reads it again and again"})
	}
	found := strings.TrimSpace(fmt.Sprintf("%d, %s", is.Number, is.Status))
	return append(all, Finding{Check: "infrastructure", Found: found})
}
