package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// MachineUsers is how many users of the host serve one virtual machine.
const MachineUsers = 1 << 16

// Users that are given to machines unless the operator chooses others: those
// that systemd leaves unused (systemd's UIDS-GIDS.md), beyond all that it and
// useradd(8) give to containers.
const (
	firstMachineUser = 0x70000000
	pastMachineUsers = 0x7ffe0000
)

// ErrNoUsers is returned, wrapped, when every range of users has a machine.
var ErrNoUsers = errors.New("no users are left for another machine")

// SetRootUser notes that a guest is a virtual machine, served by MachineUsers
// users of the host from want on, and returns the first of them. Without want
// it keeps those that it has, or gets some that no other machine has.
// ErrNotFound if there is no such guest; ErrExists, wrapped, if another machine
// has one of the users.
func (s *State) SetRootUser(ctx context.Context, guest string, want uint32) (first uint32, err error) {
	return first, s.write(ctx, "give users to guest", func(tx *sql.Tx) error {
		var have uint32
		if err := tx.QueryRowContext(ctx, `SELECT root_user FROM guests WHERE name = ?`, guest).Scan(&have); err != nil {
			return err
		}
		if first = want; first == 0 {
			first = have
		}
		if first == 0 {
			if first, err = freeUsers(ctx, tx); err != nil {
				return err
			}
		} else if err := checkUsers(ctx, tx, guest, first); err != nil {
			return err
		}
		if first == have {
			return nil
		}
		return changedOne(tx.ExecContext(ctx, `UPDATE guests SET root_user = ? WHERE name = ?`, first, guest))
	})
}

// checkUsers refuses users that another machine has.
func checkUsers(ctx context.Context, tx *sql.Tx, guest string, first uint32) error {
	var other string
	err := tx.QueryRowContext(ctx, `SELECT name FROM guests WHERE name != ?1 AND root_user != 0
		AND root_user < ?2 + ?3 AND root_user + ?3 > ?2 LIMIT 1`, guest, first, MachineUsers).Scan(&other)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("guest %s has some of the users from %d on: %w", other, first, ErrExists)
}

// freeUsers returns the first range that no machine has a part of.
func freeUsers(ctx context.Context, tx *sql.Tx) (uint32, error) {
	first := int64(firstMachineUser)
	rows, err := tx.QueryContext(ctx, `SELECT root_user FROM guests WHERE root_user > ? ORDER BY root_user`, firstMachineUser-MachineUsers)
	if err != nil {
		return 0, err
	}
	err = each(rows, func() error {
		var taken int64
		if err := rows.Scan(&taken); err != nil {
			return err
		}
		if taken < first+MachineUsers {
			first = max(first, taken+MachineUsers)
		}
		return nil
	})
	if err == nil && first+MachineUsers > pastMachineUsers {
		err = ErrNoUsers
	}
	return uint32(first), err
}
