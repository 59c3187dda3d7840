// Package debian installs the programs that tests need, by Debian's package manager.
package debian

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// timeout bounds one installation, downloads included.
const timeout = 10 * time.Minute

// Install installs packages as root. The package manager's lock lets one process install at a time.
func Install(ctx context.Context, packages ...string) error {
	apt, err := exec.LookPath("apt-get")
	if err != nil {
		return errors.New("there is no apt-get to install it with")
	}
	if os.Geteuid() != 0 {
		return errors.New("only root may install it")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	install := append([]string{"install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"},
		packages...)
	if aptGet(ctx, apt, install...) == nil {
		return nil
	}
	for tries := 1; ; tries++ {
		err := aptGet(ctx, apt, "update", "-q") // the package list may be old or missing
		if err == nil {
			err = aptGet(ctx, apt, install...)
		}
		if err == nil || tries == 10 {
			return err
		}
		select { // another process may be updating the list, which apt-get does not wait for
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Second):
		}
	}
}

// Program installs packages unless a program is on PATH.
func Program(ctx context.Context, program string, packages ...string) error {
	if _, err := exec.LookPath(program); err == nil {
		return nil
	}
	if err := Install(ctx, packages...); err != nil {
		return fmt.Errorf("this test needs %s: %w", program, err)
	}
	return nil
}

func aptGet(ctx context.Context, apt string, args ...string) error {
	cmd := exec.CommandContext(ctx, apt, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get %s: %w: %s", args[0], cmp.Or(ctx.Err(), err), lastOutput(out.String()))
	}
	return nil
}

func lastOutput(text string) string {
	const most = 2 << 10
	text = strings.TrimSpace(text)
	return text[max(0, len(text)-most):]
}
