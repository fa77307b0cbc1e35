-- One label of a domain as punycode (RFC 3492), without the prefix xn--. The label is in lower case, with at least one
-- letter outside ASCII and at most 63 characters, so that no number here can overflow.
create or replace function outboxd.punycode(label text) returns text
language plpgsql immutable strict parallel safe
as $$
declare
  digits constant text := 'abcdefghijklmnopqrstuvwxyz0123456789';
  points constant integer[] := array(select ascii(letter) from regexp_split_to_table(label, '') as letter);
  encoded text := regexp_replace(label, '[^\x01-\x7f]', '', 'g');
  basic constant integer := length(encoded);
  handled integer := basic;
  last_point integer := 127;
  next_point integer;
  delta bigint := 0;
  bias integer := 72;
  rest bigint;
  threshold integer;
  place integer;
begin
  if basic > 0 then
    encoded := encoded || '-';
  end if;
  while handled < cardinality(points) loop
    next_point := (select min(point) from unnest(points) as point where point > last_point);
    delta := delta + (next_point - last_point - 1)::bigint * (handled + 1);
    for position in 1 .. cardinality(points) loop
      if points[position] < next_point then
        delta := delta + 1;
      elsif points[position] = next_point then
        rest := delta;
        place := 36;
        loop
          threshold := least(greatest(place - bias, 1), 26);
          exit when rest < threshold;
          encoded := encoded || substr(digits, (threshold + (rest - threshold) % (36 - threshold))::integer + 1, 1);
          rest := (rest - threshold) / (36 - threshold);
          place := place + 36;
        end loop;
        encoded := encoded || substr(digits, rest::integer + 1, 1);

        rest := case when handled = basic then delta / 700 else delta / 2 end;
        handled := handled + 1;
        rest := rest + rest / handled;
        bias := 0;
        while rest > 455 loop
          rest := rest / 35;
          bias := bias + 36;
        end loop;
        bias := bias + (36 * rest / (rest + 38))::integer;
        delta := 0;
      end if;
    end loop;
    delta := delta + 1;
    last_point := next_point;
  end loop;
  return encoded;
end
$$;
