package runcmd

import (
	"net/mail"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/access"
)

// consoleAsOption is the flag of serve that lets everyone on the machine act in the console, as one person.
type consoleAsOption struct {
	text   string
	person *access.Person // nil: nobody acts
}

func (o *consoleAsOption) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.text, "console-as", "",
		"to try the console out: everyone on this machine acts in it as `PERSON`, such as 'Ada <ada@example.com>', with "+
			"the roles that access in sluice.yaml gives that address; only where every --listen is loopback or a unix socket")
}

// validate reads the person. Whoever reaches the console acts as that person, so that nobody else may reach it.
func (o *consoleAsOption) validate(cmd *cobra.Command, d listenOptions) error {
	if !cmd.Flags().Changed("console-as") {
		return nil
	}
	at, err := mail.ParseAddress(o.text)
	if err != nil {
		return cli.UsageError(cmd, "--console-as %q is no e-mail address, such as 'Ada <ada@example.com>': %w", o.text, err)
	}
	loopback := false
	for _, address := range d.listen {
		if strings.HasPrefix(address, "https://") {
			return cli.UsageError(cmd, "--console-as is for trying things out on this machine, and --listen %s is for "+
				"others too: leave one of them out; people sign in there by --oidc-issuer", address)
		}
		loopback = loopback || !strings.HasPrefix(address, "unix://")
	}
	if !loopback {
		return cli.UsageError(cmd, "--console-as is for browsers on this machine: add --listen %s", defaultListen)
	}
	o.person = &access.Person{Name: at.Name, Email: at.Address}
	return nil
}

// print says what the flag means, beside the addresses.
func (o *consoleAsOption) print(a *cli.App) {
	if o.person != nil {
		a.Stdout.PrintLine("everyone on this machine acts in the console as %s", o.person.Email)
	}
}
