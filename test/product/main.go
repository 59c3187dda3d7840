// Command product is a minimal program of a product: it evaluates one flag by the provider. It is a module of its own,
// so that its go.mod and go.sum show which dependencies the provider brings; a test of package test checks them.
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

// ask evaluates a flag by the agent at address, and prints the value.
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
