package agentcmd

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/infrastructure"
	"github.com/sluice-cd/sluice/cells/infrastructure/stack"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
)

// stacksEvery is the time between reads of stacks, unless somebody names another.
const stacksEvery = time.Minute

// addInfrastructure adds the flags that say where the agent has the state of the infrastructure from.
func (more *agentFlags) addInfrastructure(f *pflag.FlagSet, o *agent.Options) {
	f.StringVar(&more.infrastructure, "infrastructure", "", "`NUMBER` of the cell's infrastructure update; or what is read "+
		"again and again: aws:STACK[,STACK…], in the order of the update, or @FILE with number and status "+
		"(docs/infrastructure.md)")
	f.StringToStringVar(&more.quotas, "infrastructure-quota", nil, "quota of AWS that the infrastructure needs, "+
		"`SERVICE/CODE=LEAST`; may be repeated")
	cli.AddDurationFlag(f, &o.InfrastructureEvery, "infrastructure-every", 0, "time between reads of the infrastructure "+
		"(default 5s of a file, 1m of stacks)")
}

// openInfrastructure sets where the agent has the state of the infrastructure from.
func (more *agentFlags) openInfrastructure(cmd *cobra.Command, o *agent.Options) (err error) {
	text := more.infrastructure
	names, isStacks := strings.CutPrefix(text, "aws:")
	if len(more.quotas) > 0 && !isStacks {
		return cli.UsageError(cmd, "--infrastructure-quota is of AWS: it goes with --infrastructure aws:STACK")
	}
	if isStacks {
		var s stack.Options
		if s.Stacks, err = stack.ParseNames(names); err != nil {
			return cli.UsageError(cmd, "--infrastructure: %w", err)
		}
		if s.Quotas, err = stack.ParseQuotas(more.quotas); err != nil {
			return cli.UsageError(cmd, "--infrastructure-quota: %w", err)
		}
		o.InfrastructureReader = stack.NewReader(s)
		o.InfrastructureEvery = cmp.Or(o.InfrastructureEvery, stacksEvery)
		return nil
	}
	if file, ok := strings.CutPrefix(text, "@"); ok && file != "" {
		o.InfrastructureReader, err = infrastructure.NewFile(file)
		return err
	}
	o.Infrastructure, err = strconv.Atoi(cmp.Or(text, "0"))
	switch {
	case err == nil && o.Infrastructure < 0:
		return cli.UsageError(cmd, "--infrastructure %s: a number can't be negative here", text)
	case err != nil || o.Infrastructure > cells.MaxInfrastructure:
		return cli.UsageError(cmd, "--infrastructure %q is neither a number up to %d nor aws:STACK nor @FILE", text,
			cells.MaxInfrastructure)
	}
	return nil
}
