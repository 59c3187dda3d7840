// Command product is the least that a product's program is: it asks a flag by the provider. It is a module of its own, so that its
// go.mod and go.sum show what a program takes on with the provider; a test of package test holds them.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/open-feature/go-sdk/openfeature"

	"github.com/sluice-cd/sluice/flags/provider"
)

func main() {
	if err := ask(context.Background(), "unix:///run/sluice/flags.sock", "mail"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// ask tells whether a flag is on, by the agent that answers there.
func ask(ctx context.Context, address, flag string) error {
	p, err := provider.Dial(address)
	if err != nil {
		return err
	}
	if err := openfeature.SetProviderWithContextAndWait(ctx, p); err != nil {
		return err
	}
	on, err := openfeature.NewClient("product").BooleanValue(ctx, flag, false, openfeature.EvaluationContext{})
	fmt.Println(flag, on)
	return err
}
