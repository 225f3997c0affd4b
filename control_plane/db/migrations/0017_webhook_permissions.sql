-- Who could do everything before there were webhooks can do everything still: subjects of the system org that were granted every
-- permission there was. The grants are told like any others: audit log, outbox, revision.
SELECT;
