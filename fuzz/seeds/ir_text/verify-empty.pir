# test verify
policy "p" egress
order # error: no chain
