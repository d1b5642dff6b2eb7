// Command stork-repo keeps a repository of packages: see docs/operations.md.
package main

import (
	"context"
	"os"

	"stork/repo/internal/cli"
)

func main() {
	os.Exit(cli.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
