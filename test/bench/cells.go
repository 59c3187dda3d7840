package main

import "context"

func cellsSwitch(ctx context.Context, dir string) ([]row, error) { return nil, nil }
func memory(ctx context.Context, dir string) ([]row, error)      { return nil, nil }
