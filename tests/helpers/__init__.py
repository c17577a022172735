"""What tests share: small data, small studies, broken variants, and scripts that are started as processes."""
