"""Operations in every order of their steps that is worth a try."""
